import type { BitSource } from './bzip2-bits.ts';
import { DecompressionError } from './decompression-error.ts';

/** The longest code, in bits. */
const MAX_LENGTH = 20;

/** Codes up to this length are found by one look into a table. */
const FAST_LENGTH = 10;

/** A canonical Huffman code. */
export class HuffmanCode {
  /** By the next bits: symbol × 32 + length, or 0 where the code is longer. */
  readonly #fast = new Uint16Array(1 << FAST_LENGTH);
  /** By length: the first code past those of that length, shifted to 20 bits. */
  readonly #limit = new Uint32Array(MAX_LENGTH + 1);
  /** By length: what is added to a code to have its place among the symbols. */
  readonly #offset = new Int32Array(MAX_LENGTH + 1);
  readonly #symbols: Uint16Array;

  /**
   * @param lengths the length of each symbol's code, 1 to 20
   * @throws DecompressionError if there cannot be so many codes of these lengths
   */
  constructor(lengths: Uint8Array) {
    this.#symbols = new Uint16Array(lengths.length);
    let code = 0;
    let place = 0;
    for (let length = 1; length <= MAX_LENGTH; length++) {
      this.#offset[length] = place - code;
      for (let symbol = 0; symbol < lengths.length; symbol++) {
        if (lengths[symbol] !== length) continue;
        this.#symbols[place++] = symbol;
        if (length <= FAST_LENGTH) this.#fillFast(code, length, symbol);
        code++;
      }
      if (code > 1 << length) throw new DecompressionError('bzip2', 'a Huffman code is over-subscribed');
      this.#limit[length] = code << (MAX_LENGTH - length);
      code <<= 1;
    }
  }

  /**
   * Reads one symbol.
   *
   * @throws DecompressionError if the next bits are not a code
   */
  read(bits: BitSource): number {
    const next = bits.peek(MAX_LENGTH);
    const fast = this.#fast[next >>> (MAX_LENGTH - FAST_LENGTH)] ?? 0;
    if (fast !== 0) {
      bits.skip(fast & 31);
      return fast >>> 5;
    }
    for (let length = FAST_LENGTH + 1; length <= MAX_LENGTH; length++) {
      if (next >= (this.#limit[length] ?? 0)) continue;
      bits.skip(length);
      return this.#symbols[(next >>> (MAX_LENGTH - length)) + (this.#offset[length] ?? 0)] ?? 0;
    }
    throw new DecompressionError('bzip2', 'the data is corrupt');
  }

  #fillFast(code: number, length: number, symbol: number): void {
    const start = code << (FAST_LENGTH - length);
    this.#fast.fill(symbol * 32 + length, start, start + (1 << (FAST_LENGTH - length)));
  }
}
