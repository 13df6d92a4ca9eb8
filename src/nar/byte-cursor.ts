import { concat, type ByteStream } from '../stream/byte-stream.ts';
import { NarError } from './nar-error.ts';

/** The two halves of a length: above this, the upper one makes a number that is not exact. */
const MAX_UPPER_HALF = 0x1fffff;

/**
 * A place in a stream of the strings that a NAR is made of: a length of 64 bits, least significant
 * byte first, the bytes, and zeros up to a multiple of 8.
 *
 * What can be read without waiting is read without a promise.
 */
export class ByteCursor {
  readonly #input: AsyncIterator<Uint8Array>;
  #chunk: Uint8Array = new Uint8Array(0);
  #at = 0;
  /** Where the chunk starts in the stream. */
  #start = 0;
  #ended = false;

  constructor(stream: ByteStream) {
    this.#input = stream[Symbol.asyncIterator]();
  }

  /** Bytes read so far. */
  get offset(): number {
    return this.#start + this.#at;
  }

  /**
   * Reads a string that is wholly at hand. Valid until the next read.
   *
   * @param limit the most bytes it may have
   * @param expected what stands here, for errors
   * @returns undefined if more input is needed; nothing is read then
   */
  tryString(limit: number, expected: string): Uint8Array | undefined {
    const length = this.tryLength(limit, expected);
    if (length === undefined) return undefined;
    const end = this.#at + length;
    const padded = end + paddingOf(length);
    if (padded > this.#chunk.length) {
      this.#at -= 8;
      return undefined;
    }
    const bytes = this.#chunk.subarray(this.#at, end);
    for (this.#at = end; this.#at < padded; this.#at++) this.#checkZero(this.#chunk[this.#at]);
    return bytes;
  }

  /** As `tryString`, but waits for the input. */
  async string(limit: number, expected: string): Promise<Uint8Array> {
    for (;;) {
      const bytes = this.tryString(limit, expected);
      if (bytes !== undefined) return bytes;
      await this.#pull(expected);
    }
  }

  /** Reads the length of a string if it is at hand, and leaves its bytes to `take` and `padding`. */
  tryLength(limit: number, expected: string): number | undefined {
    if (this.#chunk.length - this.#at < 8) return undefined;
    const upper = this.#word(4);
    const length = upper * 2 ** 32 + this.#word(0);
    if (upper > MAX_UPPER_HALF || length > limit) {
      throw new NarError(this.offset, `expected ${expected}, found a string of ${length} bytes`);
    }
    this.#at += 8;
    return length;
  }

  /** As `tryLength`, but waits for the input. */
  async length(limit: number, expected: string): Promise<number> {
    for (;;) {
      const length = this.tryLength(limit, expected);
      if (length !== undefined) return length;
      await this.#pull(expected);
    }
  }

  /** Reads some bytes, at least one, of those at hand. */
  tryTake(limit: number): Uint8Array | undefined {
    if (this.#at === this.#chunk.length) return undefined;
    const bytes = this.#chunk.subarray(this.#at, this.#at + limit);
    this.#at += bytes.length;
    return bytes;
  }

  /** As `tryTake`, but waits for the input. */
  async take(limit: number, expected: string): Promise<Uint8Array> {
    for (;;) {
      const bytes = this.tryTake(limit);
      if (bytes !== undefined) return bytes;
      await this.#pull(expected);
    }
  }

  /** Reads the zeros after a string of that length. */
  async padding(length: number): Promise<void> {
    for (let left = paddingOf(length); left > 0; left--) {
      if (this.#at === this.#chunk.length) await this.#pull('zeros that pad to 8 bytes');
      this.#checkZero(this.#chunk[this.#at]);
      this.#at++;
    }
  }

  /** @throws NarError if the input goes on */
  async end(): Promise<void> {
    while (this.#at === this.#chunk.length) if (!(await this.#append())) return;
    throw new NarError(this.offset, 'expected the end of the archive, found more bytes');
  }

  /** Cancels the input unless it has ended. */
  async close(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    await this.#input.return?.();
  }

  async #pull(expected: string): Promise<void> {
    if (await this.#append()) return;
    throw new NarError(this.#start + this.#chunk.length, `expected ${expected}, found the end of the input`);
  }

  /** Puts the next chunk behind what is left of this one, which is short wherever it is not empty. */
  async #append(): Promise<boolean> {
    const rest = this.#chunk.slice(this.#at);
    this.#start += this.#at;
    this.#at = 0;
    this.#chunk = rest;
    const next = await this.#input.next();
    if (next.done === true) {
      this.#ended = true;
      return false;
    }
    this.#chunk = rest.length === 0 ? next.value : concat([rest, next.value]);
    return true;
  }

  #checkZero(byte: number | undefined): void {
    if (byte !== 0) throw new NarError(this.offset, `expected a zero as padding, found ${byte}`);
  }

  #word(at: number): number {
    const bytes = this.#chunk;
    const start = this.#at + at;
    return (
      ((bytes[start] ?? 0) |
        ((bytes[start + 1] ?? 0) << 8) |
        ((bytes[start + 2] ?? 0) << 16) |
        ((bytes[start + 3] ?? 0) << 24)) >>>
      0
    );
  }
}

function paddingOf(length: number): number {
  return (8 - (length % 8)) % 8;
}
