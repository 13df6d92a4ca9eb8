import { constants, createBrotliDecompress, createGunzip, createZstdDecompress } from 'node:zlib';
import type { ByteStream } from '../../stream/byte-stream.ts';
import { yieldToEventLoop } from '../event-loop.ts';
import type { Compression } from './compression.ts';
import {
  DecompressionError,
  type DecompressionReason,
  truncated,
  windowTooLarge,
} from './decompression-error.ts';
import { pausing } from './pausing.ts';
import { ZstdFrames } from './zstd-frames.ts';

/** What is used of node:zlib's transform streams. */
interface Transform {
  /** Bytes of the input that the decoder has taken. */
  readonly bytesWritten: number;
  read(): Uint8Array | null;
  write(chunk: Uint8Array, done: (error?: Error | null) => void): boolean;
  end(): unknown;
  destroy(): unknown;
  on(event: 'readable' | 'end', listener: () => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
}

/** Bytes of a piece of output. */
const CHUNK_SIZE = 64 * 1024;

/** Output after which the event loop gets its turn, in bytes: Workers decode in the calling thread, unlike Node. */
const SLICE = 4 * CHUNK_SIZE;

/** The contents of the gzip members in a row. See `decompress` for what is thrown. */
export function decompressGzip(stream: ByteStream): ByteStream {
  return transform(stream, () => createGunzip({ chunkSize: CHUNK_SIZE }), 'gzip');
}

/** The contents of a brotli stream. See `decompress` for what is thrown. */
export function decompressBrotli(stream: ByteStream, maxWindow: number): ByteStream {
  const open = (): Transform =>
    pausing(
      createBrotliDecompress({
        chunkSize: CHUNK_SIZE,
        params: { [constants.BROTLI_DECODER_PARAM_LARGE_WINDOW]: 0 },
      }),
    );
  return transform(checkBrotliWindow(stream, maxWindow), open, 'br');
}

/** The contents of the zstd frames in a row. See `decompress` for what is thrown. */
export function decompressZstd(stream: ByteStream, maxWindow: number): ByteStream {
  // The exact limit is held by ZstdFrames; the library's knows powers of two only.
  const windowLog = Math.min(31, Math.max(10, Math.ceil(Math.log2(maxWindow))));
  const open = (): Transform =>
    createZstdDecompress({
      chunkSize: CHUNK_SIZE,
      params: { [constants.ZSTD_d_windowLogMax]: windowLog },
    });
  return transform(cutZstdFrames(stream, maxWindow), open, 'zstd');
}

/**
 * Pulls output out of the transform, and hands it one chunk of input when it has none left.
 *
 * Driven by hand rather than by `pipe`, so that no input is read that no output asked for, a chunk is
 * not kept once the next one is asked for, and every way out destroys the transform and the input.
 */
async function* transform(
  stream: ByteStream,
  open: () => Transform,
  compression: Compression,
): AsyncGenerator<Uint8Array, void, void> {
  const input = stream[Symbol.asyncIterator]();
  const state = { ended: false, writing: false, failure: undefined as Error | undefined };
  const decoder = open();
  let notify = (): void => undefined;
  decoder.on('readable', () => notify());
  decoder.on('end', () => {
    state.ended = true;
    notify();
  });
  decoder.on('error', (error) => {
    state.failure ??= error;
    notify();
  });
  const written = (error?: Error | null): void => {
    state.writing = false;
    if (error) state.failure ??= error;
    notify();
  };

  let fed = 0;
  let slice = 0;
  let inputEnded = false;
  try {
    for (;;) {
      const output = decoder.read();
      if (output !== null) {
        yield output;
        slice += output.length;
        if (slice >= SLICE) {
          slice = 0;
          await yieldToEventLoop();
        }
        continue;
      }
      if (state.failure !== undefined) throw explain(state.failure, compression);
      if (state.ended) break;
      if (state.writing || inputEnded) {
        await new Promise<void>((resolve) => {
          notify = resolve;
        });
        continue;
      }
      const next = await input.next();
      if (next.done === true) {
        inputEnded = true;
        decoder.end();
      } else if (next.value.length > 0) {
        fed += next.value.length;
        state.writing = true;
        decoder.write(next.value, written);
      }
    }
    // A decoder that is done leaves the rest of the input alone and ends without an error.
    if (decoder.bytesWritten !== fed) {
      throw new DecompressionError(compression, 'something else follows the compressed data');
    }
  } finally {
    decoder.destroy();
    if (!inputEnded) await input.return?.();
  }
}

function explain(error: Error, compression: Compression): DecompressionError {
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  if (code === 'Z_BUF_ERROR') return truncated(compression);
  return new DecompressionError(compression, error.message, { reason: reasonOf(code), cause: error });
}

/** By the codes of node:zlib: those of zlib and zstd as they are named there, those of brotli behind `ERR__`. */
function reasonOf(code: string): DecompressionReason {
  switch (code) {
    case 'Z_MEM_ERROR':
    case 'ZSTD_error_memory_allocation':
    case 'ZSTD_error_frameParameter_windowTooLarge':
      return 'resources';
    // A dictionary that nobody has, or bits that are reserved for what comes after RFC 8878.
    case 'ZSTD_error_dictionary_wrong':
    case 'ZSTD_error_frameParameter_unsupported':
    case 'ZSTD_error_version_unsupported':
    // The mark of a large window, which RFC 7932 does not know.
    case 'ERR__ERROR_FORMAT_WINDOW_BITS':
      return 'unsupported';
    default:
      return code.startsWith('ERR__ERROR_ALLOC_') ? 'resources' : 'corrupt';
  }
}

async function* cutZstdFrames(stream: ByteStream, maxWindow: number): AsyncGenerator<Uint8Array, void, void> {
  const frames = new ZstdFrames(maxWindow);
  for await (const chunk of stream) yield* frames.cut(chunk);
  frames.end();
}

async function* checkBrotliWindow(
  stream: ByteStream,
  maxWindow: number,
): AsyncGenerator<Uint8Array, void, void> {
  let checked = false;
  for await (const chunk of stream) {
    const first = chunk[0];
    if (!checked && first !== undefined) {
      checked = true;
      const window = 2 ** brotliWindowBits(first) - 16;
      if (window > maxWindow) throw windowTooLarge('br', window, maxWindow);
    }
    yield chunk;
  }
}

/** WBITS of a brotli stream, from its first byte (RFC 7932, section 9.1). */
function brotliWindowBits(first: number): number {
  if ((first & 1) === 0) return 16;
  const high = (first >> 1) & 7;
  if (high !== 0) return 17 + high;
  const low = (first >> 4) & 7;
  // 1 marks a large window, which the decoder refuses by itself.
  return low === 0 || low === 1 ? 17 : 8 + low;
}
