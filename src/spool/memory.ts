import { StorageError } from '../storage/blob-store.ts';
import type { BlobSource } from '../storage/blob-store.ts';
import { concat } from '../stream/byte-stream.ts';
import { assertReadable } from './spool.ts';
import type { Spool, SpoolFile } from './spool.ts';

/** What `createMemorySpool` takes; everything has a default. */
export interface MemorySpoolOptions {
  /**
   * The most bytes of one file; an append beyond them fails as on a full disk.
   *
   * @default Infinity
   */
  readonly fileLimit?: number;
}

/** A spool in memory: for bodies so small that the disk would cost more, and for tests. */
export function createMemorySpool(options: MemorySpoolOptions = {}): Spool {
  const fileLimit = options.fileLimit ?? Number.POSITIVE_INFINITY;
  return {
    description: 'memory:',
    async create(name) {
      return createMemoryFile(name, fileLimit);
    },
    async close() {},
  };
}

function createMemoryFile(name: string, limit: number): SpoolFile {
  let chunks: Uint8Array[] = [];
  /** Where each chunk begins, ascending. */
  let starts: number[] = [];
  let written = 0;
  let state: 'growing' | 'broken' | 'whole' | 'discarded' = 'growing';

  const fault = (operation: string, why: string): StorageError =>
    new StorageError(`Cannot ${operation} spooled ${JSON.stringify(name)}: ${why}`);
  /** The chunk that has the position: the last one that begins at or before it. */
  const indexOf = (position: number): number => {
    let low = 0;
    let high = starts.length;
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if ((starts[middle] ?? 0) <= position) low = middle;
      else high = middle;
    }
    return low;
  };

  return {
    get written() {
      return written;
    },

    async append(chunk) {
      if (state !== 'growing') throw fault('append to', `it is ${state}`);
      if (written + chunk.length > limit) {
        state = 'broken';
        throw fault('append to', `it would be larger than ${limit} bytes`);
      }
      if (chunk.length === 0) return;
      chunks.push(chunk.slice());
      starts.push(written);
      written += chunk.length;
    },

    async read(position, maxLength) {
      if (state === 'discarded') throw fault('read', 'it is discarded');
      assertReadable(position, maxLength, written);
      const index = indexOf(position);
      const from = position - (starts[index] ?? 0);
      const bytes = chunks[index]?.subarray(from, from + maxLength);
      if (bytes === undefined) throw fault('read', `nothing is stored at ${position}`);
      return bytes;
    },

    source(): BlobSource {
      if (state === 'broken' || state === 'discarded') throw fault('hand over', `it is ${state}`);
      state = 'whole';
      // Instead of the chunks: the body is in memory once.
      const bytes = concat(chunks, written);
      chunks = [bytes];
      starts = [0];
      return { kind: 'bytes', bytes };
    },

    async discard() {
      state = 'discarded';
      chunks = [];
      starts = [];
    },
  };
}
