import { DecompressionError, truncated, windowTooLarge } from './decompression-error.ts';

const FRAME_MAGIC = 0xfd2fb528;
const SKIPPABLE_MAGIC = 0x184d2a50;
const DICTIONARY_ID_SIZES = [0, 1, 2, 4] as const;
const CONTENT_SIZE_SIZES = [0, 2, 4, 8] as const;

type Part =
  'magic' | 'skippable-size' | 'skipped' | 'descriptor' | 'header' | 'block-header' | 'block' | 'checksum';

/**
 * Follows the frames of a zstd stream (RFC 8878, section 3) without decoding them.
 *
 * The decoder of node:zlib drops what follows a frame in the same write and ends as if all were well;
 * it ends likewise on garbage. So its input is cut where frames end, and the structure is checked here.
 */
export class ZstdFrames {
  readonly #maxWindow: number;
  #part: Part = 'magic';
  /** Bytes of the part that are still to come. */
  #missing = 4;
  /** Where the part's value matters: its bytes so far, 14 at most. */
  readonly #held = new Uint8Array(16);
  #heldLength = 0;
  #descriptor = 0;
  #lastBlock = false;
  #frames = 0;

  /** @param maxWindow the largest window allowed, in bytes */
  constructor(maxWindow: number) {
    this.#maxWindow = maxWindow;
  }

  /**
   * The chunk cut after each end of a frame.
   *
   * @throws DecompressionError if a frame does not start where one must, or its window is too large
   */
  cut(chunk: Uint8Array): Uint8Array[] {
    const pieces: Uint8Array[] = [];
    let start = 0;
    let at = 0;
    while (at < chunk.length) {
      const length = Math.min(this.#missing, chunk.length - at);
      if (this.#part !== 'block' && this.#part !== 'skipped') {
        this.#held.set(chunk.subarray(at, at + length), this.#heldLength);
        this.#heldLength += length;
      }
      at += length;
      this.#missing -= length;
      while (this.#missing === 0) {
        this.#enterNext();
        if (this.#part === 'magic') {
          pieces.push(chunk.subarray(start, at));
          start = at;
        }
      }
    }
    if (start < chunk.length) pieces.push(chunk.subarray(start));
    return pieces;
  }

  /** @throws DecompressionError if the input may not end here */
  end(): void {
    if (this.#part !== 'magic' || this.#heldLength > 0 || this.#frames === 0) throw truncated('zstd');
  }

  #enter(part: Part, size: number): void {
    this.#part = part;
    this.#missing = size;
    this.#heldLength = 0;
  }

  #enterNext(): void {
    switch (this.#part) {
      case 'magic':
        return this.#enterFrame(this.#littleEndian(0, 4));
      case 'skippable-size':
        return this.#enter('skipped', this.#littleEndian(0, 4));
      case 'skipped':
      case 'checksum':
        return this.#enter('magic', 4);
      case 'descriptor':
        return this.#enterHeader();
      case 'header':
        this.#checkWindow();
        return this.#enter('block-header', 3);
      case 'block-header':
        return this.#enterBlock(this.#littleEndian(0, 3));
      case 'block':
        if (!this.#lastBlock) return this.#enter('block-header', 3);
        if ((this.#descriptor & 4) !== 0) return this.#enter('checksum', 4);
        return this.#enter('magic', 4);
    }
  }

  #enterFrame(magic: number): void {
    if (magic === FRAME_MAGIC) {
      this.#frames++;
      this.#enter('descriptor', 1);
    } else if ((magic & 0xfffffff0) === SKIPPABLE_MAGIC) {
      this.#enter('skippable-size', 4);
    } else if (this.#frames === 0) {
      throw new DecompressionError('zstd', 'the input is not in this format');
    } else {
      throw new DecompressionError('zstd', 'something else follows the last frame');
    }
  }

  #enterHeader(): void {
    this.#descriptor = this.#held[0] ?? 0;
    const windowSize = this.#singleSegment ? 0 : 1;
    this.#enter('header', windowSize + this.#dictionaryIdSize + this.#contentSizeSize);
  }

  #enterBlock(header: number): void {
    this.#lastBlock = (header & 1) === 1;
    const runLength = ((header >> 1) & 3) === 1;
    this.#enter('block', runLength ? 1 : header >> 3);
  }

  get #singleSegment(): boolean {
    return (this.#descriptor & 32) !== 0;
  }

  get #dictionaryIdSize(): number {
    return DICTIONARY_ID_SIZES[this.#descriptor & 3] ?? 0;
  }

  get #contentSizeSize(): number {
    const flag = this.#descriptor >> 6;
    return flag === 0 && this.#singleSegment ? 1 : (CONTENT_SIZE_SIZES[flag] ?? 0);
  }

  #checkWindow(): void {
    let window: number;
    if (this.#singleSegment) {
      const size = this.#contentSizeSize;
      window = this.#littleEndian(this.#dictionaryIdSize, size) + (size === 2 ? 256 : 0);
    } else {
      const descriptor = this.#held[0] ?? 0;
      const base = 2 ** (10 + (descriptor >> 3));
      window = base + (base / 8) * (descriptor & 7);
    }
    if (window > this.#maxWindow) throw windowTooLarge('zstd', window, this.#maxWindow);
  }

  #littleEndian(at: number, size: number): number {
    let value = 0;
    for (let byte = size - 1; byte >= 0; byte--) value = value * 256 + (this.#held[at + byte] ?? 0);
    return value;
  }
}
