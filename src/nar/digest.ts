import type { ByteStream } from '../stream/byte-stream.ts';
import { ChunkHandoff } from './chunk-handoff.ts';
import { decompress, type Compression, type DecompressLimits } from './decompress.ts';
import { outputTooLarge } from './decompress/decompression-error.ts';
import { yieldToEventLoop } from './event-loop.ts';
import { createSha256 } from './sha256.ts';

/** What a narinfo says of its NAR. */
export interface NarDigest {
  /** SHA-256 of the uncompressed NAR: `sha256:` and 52 characters of nix32. */
  readonly narHash: string;
  /** Bytes of the uncompressed NAR. */
  readonly narSize: number;
}

/** Digests a NAR that is pushed into it, encoded, chunk by chunk. */
export interface NarDigester {
  /**
   * Digests a chunk. To be awaited before the next call: it resolves when the chunk is used up and may
   * be changed by its maker.
   *
   * @throws DecompressionError if the NAR is known to be wrong by now, and from then on
   */
  push(chunk: Uint8Array): Promise<void>;
  /**
   * Says that the last chunk was pushed.
   *
   * @throws DecompressionError if the NAR is not whole or not right
   */
  finish(): Promise<NarDigest>;
  /** Frees the decoder. What is called afterwards, or waits meanwhile, is rejected. May be called at any time. */
  abort(): void;
}

/** Bytes that are hashed in one go, and after which the event loop gets its turn: some 2 and 6 milliseconds. */
const PIECE = 1024 * 1024;
const SLICE = 4 * PIECE;

/**
 * The digest of an encoded NAR. Consumes the stream; lets the event loop run every few milliseconds.
 *
 * The bytes are hashed, not parsed: that the hash is the one that was signed says more.
 *
 * @throws DecompressionError as `decompress` does, and what the stream throws as it is
 */
export async function digestNar(
  stream: ByteStream,
  compression: Compression,
  limits: DecompressLimits,
): Promise<NarDigest> {
  const sum = new RunningSum();
  for await (const chunk of decompress(stream, compression, limits)) await sum.add(chunk);
  return sum.digest();
}

/**
 * The digest of an encoded NAR whose bytes pass by on their way elsewhere.
 *
 * @example
 * const digester = createNarDigester('xz', { maxOutput: narSize });
 * for await (const chunk of body) {
 *   await digester.push(chunk);
 *   yield chunk;
 * }
 * const { narHash } = await digester.finish();
 */
export function createNarDigester(compression: Compression, limits: DecompressLimits): NarDigester {
  return compression === 'none'
    ? new PlainDigester(limits.maxOutput)
    : new DecodingDigester(compression, limits);
}

class RunningSum {
  size = 0;
  readonly #sha256 = createSha256();
  #slice = 0;

  async add(chunk: Uint8Array): Promise<void> {
    this.size += chunk.length;
    for (let at = 0; at < chunk.length; at += PIECE) {
      const piece = chunk.subarray(at, at + PIECE);
      this.#sha256.update(piece);
      this.#slice += piece.length;
      if (this.#slice < SLICE) continue;
      this.#slice = 0;
      await yieldToEventLoop();
    }
  }

  digest(): NarDigest {
    return { narHash: this.#sha256.digest(), narSize: this.size };
  }
}

function aborted(): Error {
  return new Error('Cannot digest the NAR: the digest was aborted');
}

class PlainDigester implements NarDigester {
  readonly #maxOutput: number;
  readonly #sum = new RunningSum();
  #failure: Error | undefined;

  constructor(maxOutput: number) {
    this.#maxOutput = maxOutput;
  }

  async push(chunk: Uint8Array): Promise<void> {
    if (this.#failure === undefined && this.#sum.size + chunk.length > this.#maxOutput) {
      this.#failure = outputTooLarge('none', this.#maxOutput);
    }
    this.#check();
    await this.#sum.add(chunk);
    this.#check();
  }

  finish(): Promise<NarDigest> {
    return new Promise((resolve) => {
      this.#check();
      resolve(this.#sum.digest());
    });
  }

  abort(): void {
    this.#failure ??= aborted();
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }
}

class DecodingDigester implements NarDigester {
  readonly #input = new ChunkHandoff();
  readonly #done: Promise<NarDigest | undefined>;
  #failure: { readonly error: unknown } | undefined;

  constructor(compression: Compression, limits: DecompressLimits) {
    this.#done = this.#run(compression, limits).catch((error: unknown) => {
      this.#fail(error);
      return undefined;
    });
  }

  async push(chunk: Uint8Array): Promise<void> {
    if (chunk.length > 0) await this.#input.push(chunk);
    this.#check();
  }

  async finish(): Promise<NarDigest> {
    this.#input.end();
    const digest = await this.#done;
    this.#check();
    if (digest === undefined) throw aborted();
    return digest;
  }

  abort(): void {
    this.#fail(aborted());
  }

  async #run(compression: Compression, limits: DecompressLimits): Promise<NarDigest> {
    const sum = new RunningSum();
    for await (const chunk of decompress(this.#input, compression, limits)) {
      // One small chunk of input can be much output, which nobody wants after an abort.
      this.#check();
      await sum.add(chunk);
    }
    return sum.digest();
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
    this.#input.fail(this.#failure.error);
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}
