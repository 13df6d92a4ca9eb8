import type { ByteStream } from '../stream/byte-stream.ts';
import { decompressBzip2 } from './decompress/bzip2.ts';
import type { Compression } from './decompress/compression.ts';
import { outputTooLarge } from './decompress/decompression-error.ts';
import { decompressXz } from './decompress/xz.ts';
import { decompressBrotli, decompressGzip, decompressZstd } from './decompress/zlib.ts';

export {
  COMPRESSIONS,
  compressionExtension,
  isCompression,
  type Compression,
} from './decompress/compression.ts';
export { DecompressionError, type DecompressionReason } from './decompress/decompression-error.ts';

/** What a stream may cost. */
export interface DecompressLimits {
  /** The most bytes that may come out. */
  readonly maxOutput: number;
  /**
   * The most bytes that a window or dictionary may take.
   *
   * Holds for zstd, xz and brotli. xz stops at 64 MiB (`xz -9`) whatever is set here; gzip always
   * takes 32 KiB, bzip2 at most 4 MB.
   * @default 134217728 (128 MiB, the most that `zstd` decodes without being asked to)
   */
  readonly maxWindow?: number;
}

const DEFAULT_MAX_WINDOW = 128 * 1024 * 1024;

/**
 * The decompressed bytes, lazily: input is pulled when output is. The input is consumed; leaving the
 * loop early cancels it and frees the decoder. Formats that need much time on this thread let the
 * event loop run every few milliseconds.
 *
 * What the formats allow in a row is read in a row: xz streams with their padding, gzip members, zstd
 * frames with skippable ones between, bzip2 streams. Checksums of a format are verified: CRC32 and
 * CRC64 of xz, CRC32 of gzip and bzip2, XXH64 of zstd where the frame has it; brotli has none. Not
 * supported, as an error: xz with SHA-256 checks or with filters other than LZMA2, zstd with a
 * dictionary, brotli's large windows, the randomised blocks of bzip2 before 0.9.5.
 *
 * @throws DecompressionError while iterating, if the input is corrupt, truncated, empty, or followed by
 *   anything else (zeros too), or instead of the chunk that would pass `maxOutput` (reason `corrupt`); if `maxWindow`
 *   or the memory does not suffice (`resources`), or what is not supported is met (`unsupported`).
 *   What the input itself throws comes through as it is.
 */
export function decompress(
  stream: ByteStream,
  compression: Compression,
  limits: DecompressLimits,
): ByteStream {
  const decoded = decoderOf(compression)(stream, limits.maxWindow ?? DEFAULT_MAX_WINDOW);
  return limitOutput(decoded, compression, limits.maxOutput);
}

function decoderOf(compression: Compression): (stream: ByteStream, maxWindow: number) => ByteStream {
  switch (compression) {
    case 'none':
      return (stream) => stream;
    case 'xz':
      return decompressXz;
    case 'zstd':
      return decompressZstd;
    case 'br':
      return decompressBrotli;
    case 'bzip2':
      return decompressBzip2;
    case 'gzip':
      return decompressGzip;
  }
}

async function* limitOutput(
  stream: ByteStream,
  compression: Compression,
  maxOutput: number,
): AsyncGenerator<Uint8Array, void, void> {
  let size = 0;
  for await (const chunk of stream) {
    if (chunk.length === 0) continue;
    size += chunk.length;
    if (size > maxOutput) throw outputTooLarge(compression, maxOutput);
    yield chunk;
  }
}
