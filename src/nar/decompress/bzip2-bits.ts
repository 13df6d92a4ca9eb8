import type { ByteStream } from '../../stream/byte-stream.ts';
import { concat } from '../../stream/byte-stream.ts';
import { truncated } from './decompression-error.ts';

/** Bytes gathered at least at each refill, so that tiny chunks do not cost a copy each. */
const REFILL = 4096;

/** The bits of a stream, most significant first. */
export class BitSource {
  readonly #input: AsyncIterator<Uint8Array>;
  #bytes: Uint8Array = new Uint8Array(0);
  #at = 0;
  #ended = false;
  /** The low `#count` bits are those taken from the bytes and not yet read. */
  #bits = 0;
  #count = 0;
  /** Zero bytes made up after the end of the input. */
  #madeUp = 0;

  constructor(stream: ByteStream) {
    this.#input = stream[Symbol.asyncIterator]();
  }

  /** Whether so many bytes can be read without `refill`. True after the end of the input. */
  has(bytes: number): boolean {
    return this.#ended || this.#bytes.length - this.#at >= bytes;
  }

  /**
   * Pulls input until so many bytes are at hand or it has ended.
   *
   * @throws DecompressionError if bits past the end of the input were read
   */
  async refill(bytes: number): Promise<void> {
    this.checkEnd();
    const rest = this.#bytes.subarray(this.#at);
    const pieces = [rest];
    let size = rest.length;
    while (!this.#ended && size < Math.max(bytes, REFILL)) {
      const next = await this.#input.next();
      if (next.done === true) this.#ended = true;
      // Copied: the chunk is its maker's again once the next one is asked for.
      else {
        pieces.push(next.value.slice());
        size += next.value.length;
      }
    }
    this.#bytes = concat(pieces, size);
    this.#at = 0;
  }

  /** @throws DecompressionError if bits past the end of the input were read */
  checkEnd(): void {
    if (this.#madeUp * 8 > this.#count) throw truncated('bzip2');
  }

  /** Whether bits past the end of the input were looked at: what seems corrupt may then be cut. */
  get overran(): boolean {
    return this.#madeUp > 0;
  }

  /** Whether everything was read but the bits that fill the last byte. For use at a byte's end. */
  get atEnd(): boolean {
    return this.#ended && this.#at === this.#bytes.length && this.#count - this.#madeUp * 8 < 8;
  }

  /** Skips what is left of a byte. */
  align(): void {
    this.#count -= this.#count % 8;
  }

  /** Reads up to 24 bits. Past the end of the input they are zeros; see `checkEnd`. */
  read(count: number): number {
    this.#fill(count);
    this.#count -= count;
    return (this.#bits >>> this.#count) & ((1 << count) - 1);
  }

  /** The next bits, which are not read yet: up to 24. */
  peek(count: number): number {
    this.#fill(count);
    return (this.#bits >>> (this.#count - count)) & ((1 << count) - 1);
  }

  /** Reads bits that were peeked at. */
  skip(count: number): void {
    this.#count -= count;
  }

  /** Cancels the input unless it has ended. */
  async close(): Promise<void> {
    if (!this.#ended) await this.#input.return?.();
  }

  #fill(count: number): void {
    while (this.#count < count) {
      const byte = this.#bytes[this.#at];
      if (byte === undefined) this.#madeUp++;
      else this.#at++;
      this.#bits = (this.#bits << 8) | (byte ?? 0);
      this.#count += 8;
    }
  }
}
