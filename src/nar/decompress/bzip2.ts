import type { ByteStream } from '../../stream/byte-stream.ts';
import { yieldToEventLoop } from '../event-loop.ts';
import { BitSource } from './bzip2-bits.ts';
import { corrupt, readBlock, type SortedBlock } from './bzip2-block.ts';
import { DecompressionError, truncated } from './decompression-error.ts';

/** The first half of the number that starts a block: digits of π. The whole is 0x314159265359. */
const BLOCK_MAGIC = [0x314159, 0x265359] as const;
/** That which ends a stream: digits of its square root. */
const END_MAGIC = [0x177245, 0x385090] as const;

/** Bytes of a piece of output, and the longest run that may go over it. */
const CHUNK_SIZE = 64 * 1024;
const MAX_RUN = 255;

/** Bytes that a stream's header, a block's head or a stream's end take at most. */
const LOOKAHEAD = 32;

/**
 * The contents of the bzip2 streams in a row. See `decompress` for what is thrown.
 *
 * Written here because the libraries decode a whole block at once: up to 46 MB of output, and more
 * than 100 ms in which nothing else runs.
 */
export async function* decompressBzip2(stream: ByteStream): AsyncGenerator<Uint8Array, void, void> {
  const bits = new BitSource(stream);
  try {
    let first = true;
    do {
      await bits.refill(LOOKAHEAD);
      const entries = new Uint32Array(readBlockSize(bits, first));
      first = false;
      yield* readStream(bits, entries);
      if (!bits.has(LOOKAHEAD)) await bits.refill(LOOKAHEAD);
    } while (!bits.atEnd);
  } catch (error) {
    throw error instanceof DecompressionError && bits.overran ? truncated('bzip2') : error;
  } finally {
    await bits.close();
  }
}

/** The bytes of a block, by the header of a stream. */
function readBlockSize(bits: BitSource, first: boolean): number {
  const magic = bits.read(24);
  const level = bits.read(8) - 0x30;
  if (magic === 0x425a68 && level >= 1 && level <= 9) return level * 100_000;
  throw new DecompressionError(
    'bzip2',
    first ? 'the input is not in this format' : 'something else follows the last stream',
  );
}

async function* readStream(bits: BitSource, entries: Uint32Array): AsyncGenerator<Uint8Array, void, void> {
  let combined = 0;
  for (;;) {
    if (!bits.has(LOOKAHEAD)) await bits.refill(LOOKAHEAD);
    const magic = [bits.read(24), bits.read(24)] as const;
    const expected = ((bits.read(16) << 16) | bits.read(16)) >>> 0;
    bits.checkEnd();
    if (magic[0] === END_MAGIC[0] && magic[1] === END_MAGIC[1]) {
      if (expected !== combined) throw new DecompressionError('bzip2', 'the checksum of the stream differs');
      bits.align();
      return;
    }
    if (magic[0] !== BLOCK_MAGIC[0] || magic[1] !== BLOCK_MAGIC[1]) throw corrupt();
    const output = new BlockOutput(entries, await readBlock(bits, entries));
    for (let chunk = output.next(); chunk.length > 0; chunk = output.next()) {
      yield chunk;
      await yieldToEventLoop();
    }
    if (output.checksum !== expected)
      throw new DecompressionError('bzip2', 'the checksum of a block differs');
    combined = (expected ^ ((combined << 1) | (combined >>> 31))) >>> 0;
  }
}

/** Walks the entries of a block and undoes the run-length coding that bzip2 does first of all. */
class BlockOutput {
  readonly #entries: Uint32Array;
  #left: number;
  #entry: number;
  /** How often `#byte` was met in a row; after the fourth comes a count of further ones. */
  #repeated = 0;
  #byte = -1;
  #crc = 0xffffffff;

  constructor(entries: Uint32Array, block: SortedBlock) {
    this.#entries = entries;
    this.#left = block.size;
    this.#entry = block.start;
  }

  /** CRC-32 of all output so far, in bzip2's order of bits. */
  get checksum(): number {
    return ~this.#crc >>> 0;
  }

  /** The next piece of output, or nothing at the end of the block. */
  next(): Uint8Array {
    const entries = this.#entries;
    const output = new Uint8Array(Math.min(CHUNK_SIZE, this.#left * MAX_RUN) + MAX_RUN);
    let size = 0;
    let left = this.#left;
    let at = this.#entry;
    let byte = this.#byte;
    let repeated = this.#repeated;
    while (left > 0 && size < CHUNK_SIZE) {
      const entry = entries[at] ?? 0;
      left--;
      at = entry >>> 8;
      const value = entry & 255;
      if (repeated === 4) {
        output.fill(byte, size, size + value);
        size += value;
        repeated = 0;
        byte = -1;
      } else {
        output[size++] = value;
        repeated = value === byte ? repeated + 1 : 1;
        byte = value;
      }
    }
    this.#left = left;
    this.#entry = at;
    this.#byte = byte;
    this.#repeated = repeated;
    const chunk = output.subarray(0, size);
    this.#crc = crc32(this.#crc, chunk);
    return chunk;
  }
}

/** CRC-32 with the polynomial 0x04c11db7, most significant bit first. */
const CRC_TABLE: Uint32Array = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 24;
  for (let bit = 0; bit < 8; bit++) crc = crc < 0 ? (crc << 1) ^ 0x04c11db7 : crc << 1;
  return crc >>> 0;
});

function crc32(crc: number, bytes: Uint8Array): number {
  let value = crc;
  for (const byte of bytes) value = (value << 8) ^ (CRC_TABLE[(value >>> 24) ^ byte] ?? 0);
  return value;
}
