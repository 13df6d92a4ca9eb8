import { yieldToEventLoop } from '../event-loop.ts';
import type { BitSource } from './bzip2-bits.ts';
import { HuffmanCode } from './bzip2-huffman.ts';
import { DecompressionError } from './decompression-error.ts';

/** Symbols that are read with one Huffman code before the selectors name the next. */
const GROUP_SIZE = 50;
/** As many groups as a block can have; longer lists exist, their rest is not used. */
const MAX_SELECTORS = 18_002;
/** More bytes than a group of symbols, or any one item of the header, can take. */
const LOOKAHEAD = 128;
/** Groups, and symbols of the block, after which the event loop gets its turn: a few milliseconds. */
const SLICE_GROUPS = 1000;
const SLICE_SYMBOLS = 200_000;

/** A block as it stands before its Burrows-Wheeler transform is undone. */
export interface SortedBlock {
  /** Bytes of the block. */
  readonly size: number;
  /** The entry that the block starts from. */
  readonly start: number;
}

/** The error of data that contradicts itself. */
export function corrupt(): DecompressionError {
  return new DecompressionError('bzip2', 'the data is corrupt');
}

/**
 * Reads a block, after its magic number and checksum, into `entries`: each entry has a byte of the
 * block in its low 8 bits and above them the index of the entry of the byte that follows.
 *
 * @param entries as long as the stream's block size
 * @throws DecompressionError if the block is corrupt or the input ends in it
 */
export async function readBlock(bits: BitSource, entries: Uint32Array): Promise<SortedBlock> {
  if (!bits.has(LOOKAHEAD)) await bits.refill(LOOKAHEAD);
  if (bits.read(1) === 1) {
    throw new DecompressionError('bzip2', 'randomised blocks (of bzip2 before 0.9.5) are not supported', {
      reason: 'unsupported',
    });
  }
  const origin = bits.read(24);
  const alphabet = readAlphabet(bits);
  const codeCount = bits.read(3);
  if (codeCount < 2 || codeCount > 6 || alphabet.length === 0) throw corrupt();
  const selectors = await readSelectors(bits, codeCount);
  const codes: HuffmanCode[] = [];
  for (let index = 0; index < codeCount; index++) {
    codes.push(new HuffmanCode(await readLengths(bits, alphabet.length + 2)));
  }

  const symbols = new BlockSymbols(bits, alphabet, entries);
  for (let group = 0, ended = false; !ended; group++) {
    const code = codes[selectors[group] ?? codeCount];
    if (code === undefined) throw corrupt();
    if (!bits.has(LOOKAHEAD)) await bits.refill(LOOKAHEAD);
    ended = symbols.readGroup(code);
    if (group % SLICE_GROUPS === SLICE_GROUPS - 1) await yieldToEventLoop();
  }
  bits.checkEnd();
  if (origin >= symbols.size) throw corrupt();
  await linkEntries(entries, symbols.size, symbols.counts);
  return { size: symbols.size, start: (entries[origin] ?? 0) >>> 8 };
}

/** The bytes that occur in the block, in order. */
function readAlphabet(bits: BitSource): Uint8Array {
  const bytes: number[] = [];
  const rows = bits.read(16);
  for (let row = 0; row < 16; row++) {
    if ((rows & (0x8000 >> row)) === 0) continue;
    const columns = bits.read(16);
    for (let column = 0; column < 16; column++) {
      if ((columns & (0x8000 >> column)) !== 0) bytes.push(row * 16 + column);
    }
  }
  return Uint8Array.from(bytes);
}

/** The index of the Huffman code of each group. */
async function readSelectors(bits: BitSource, codeCount: number): Promise<Uint8Array> {
  const count = bits.read(15);
  if (count === 0) throw corrupt();
  const recent = new MoveToFront(Uint8Array.from({ length: codeCount }, (_, index) => index));
  const selectors = new Uint8Array(Math.min(count, MAX_SELECTORS));
  for (let at = 0; at < count; at++) {
    if (!bits.has(LOOKAHEAD)) await bits.refill(LOOKAHEAD);
    let index = 0;
    while (bits.read(1) === 1) if (++index >= codeCount) throw corrupt();
    const selector = recent.take(index);
    if (at < MAX_SELECTORS) selectors[at] = selector;
  }
  return selectors;
}

/** The lengths of the codes of a Huffman code, each told by its difference from the one before. */
async function readLengths(bits: BitSource, symbols: number): Promise<Uint8Array> {
  const lengths = new Uint8Array(symbols);
  if (!bits.has(LOOKAHEAD)) await bits.refill(LOOKAHEAD);
  let length = bits.read(5);
  for (let symbol = 0; symbol < symbols; symbol++) {
    if (!bits.has(LOOKAHEAD)) await bits.refill(LOOKAHEAD);
    // 19 steps lead from any length to any other; a detour this long is an attempt to spin.
    for (let steps = 0; ; steps++) {
      if (length < 1 || length > 20 || steps > 400) throw corrupt();
      if (bits.read(1) === 0) break;
      length += bits.read(1) === 0 ? 1 : -1;
    }
    lengths[symbol] = length;
  }
  return lengths;
}

/** Undoes the move-to-front and zero-run coding of a block's symbols. */
class BlockSymbols {
  /** Bytes of the block so far. */
  size = 0;
  /** How often each byte occurs. */
  readonly counts: Uint32Array = new Uint32Array(256);
  readonly #bits: BitSource;
  readonly #entries: Uint32Array;
  readonly #recent: MoveToFront;
  readonly #endSymbol: number;
  #run = 0;
  #runDigit = 1;

  constructor(bits: BitSource, alphabet: Uint8Array, entries: Uint32Array) {
    this.#bits = bits;
    this.#entries = entries;
    this.#recent = new MoveToFront(alphabet);
    this.#endSymbol = alphabet.length + 1;
  }

  /** Reads 50 symbols, or up to the one that ends the block; then the answer is true. */
  readGroup(code: HuffmanCode): boolean {
    for (let left = GROUP_SIZE; left > 0; left--) {
      const symbol = code.read(this.#bits);
      if (symbol <= 1) {
        // A run's length, in digits of 1 and 2, the least significant first.
        this.#run += this.#runDigit << symbol;
        this.#runDigit <<= 1;
        if (this.#run > this.#entries.length) throw corrupt();
        continue;
      }
      if (this.#run > 0) this.#endRun();
      if (symbol === this.#endSymbol) return true;
      this.#append(this.#recent.take(symbol - 1), 1);
    }
    return false;
  }

  #endRun(): void {
    this.#append(this.#recent.first, this.#run);
    this.#run = 0;
    this.#runDigit = 1;
  }

  #append(byte: number, times: number): void {
    const end = this.size + times;
    if (end > this.#entries.length) throw corrupt();
    if (times === 1) this.#entries[this.size] = byte;
    else this.#entries.fill(byte, this.size, end);
    this.counts[byte] = (this.counts[byte] ?? 0) + times;
    this.size = end;
  }
}

/** A list whose used items come to its front. */
class MoveToFront {
  readonly #items: Uint8Array;

  constructor(items: Uint8Array) {
    this.#items = items.slice();
  }

  get first(): number {
    return this.#items[0] ?? 0;
  }

  /** The item at the index, which must be one, and moves it to the front. */
  take(index: number): number {
    const items = this.#items;
    const item = items[index] ?? 0;
    if (index < 16) for (let at = index; at > 0; at--) items[at] = items[at - 1] ?? 0;
    else items.copyWithin(1, 0, index);
    items[0] = item;
    return item;
  }
}

/** Writes above each entry's byte where the byte that follows is: the inverse of the sorting. */
async function linkEntries(entries: Uint32Array, size: number, counts: Uint32Array): Promise<void> {
  const next = new Uint32Array(256);
  for (let byte = 1; byte < 256; byte++) next[byte] = (next[byte - 1] ?? 0) + (counts[byte - 1] ?? 0);
  for (let start = 0; start < size; start += SLICE_SYMBOLS) {
    const end = Math.min(size, start + SLICE_SYMBOLS);
    for (let at = start; at < end; at++) {
      const byte = (entries[at] ?? 0) & 255;
      const place = next[byte] ?? 0;
      next[byte] = place + 1;
      entries[place] = (entries[place] ?? 0) | (at << 8);
    }
    await yieldToEventLoop();
  }
}
