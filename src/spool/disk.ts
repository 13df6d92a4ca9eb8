import { closeSync, read as readCallback, write as writeCallback } from 'node:fs';
import { unlink } from 'node:fs/promises';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { StorageError } from '../storage/blob-store.ts';
import { errorCode, openWriterFolder } from '../storage/writer-folder.ts';
import type { CreatedFile } from '../storage/writer-folder.ts';
import { BLOCK_SIZE, createBlockCache } from './disk-blocks.ts';
import type { BlockCache } from './disk-blocks.ts';
import type { Spool, SpoolFile } from './spool.ts';
import { assertReadable } from './spool.ts';

const read = promisify(readCallback);
const write = promisify(writeCallback);

/** What `createDiskSpool` takes. */
export interface DiskSpoolOptions {
  /** Made if it is missing. On the file system of a file store, a body is moved there without a copy. */
  readonly directory: string;
  /**
   * Milliseconds since the epoch, to tell the age of what other machines left behind.
   *
   * @default Date.now
   */
  readonly now?: () => number;
  /** Called with the name of each write step just before it is taken: `spool:create`, `spool:append`, `spool:discard`. For tests. */
  readonly checkpoint?: (step: string) => void | Promise<void>;
}

/** Milliseconds for which the files of a writer on another machine are left alone at start. */
const FOREIGN_LEFTOVER_AGE = 24 * 60 * 60 * 1000;

type Checkpoint = (step: string) => Promise<void>;

/**
 * A spool of files in a folder of its own under `directory`. What killed processes left there is removed now.
 *
 * A file keeps one descriptor from `create` to `discard`, so reads go on when a store has moved the file. Nothing is
 * made durable here: the store does that with what it takes over.
 *
 * @throws StorageError if the directory cannot be made or swept
 */
export async function createDiskSpool(options: DiskSpoolOptions): Promise<Spool> {
  const directory = resolve(options.directory);
  const now = options.now ?? Date.now;
  const checkpoint: Checkpoint = async (step) => {
    await options.checkpoint?.(step);
  };
  const writer = await orFailed('open', directory, openWriterFolder(directory));
  await orFailed('sweep', directory, writer.sweep(now() - FOREIGN_LEFTOVER_AGE));
  const blocks = createBlockCache();
  let created = 0;
  return {
    description: `disk:${directory}`,
    async create(name) {
      await checkpoint('spool:create');
      const file = await orFailed('create', name, writer.create('wx+'));
      return createDiskFile({ ...file, name, id: created++, blocks, checkpoint });
    },
    close: () => writer.close(),
  };
}

interface DiskFile extends CreatedFile {
  readonly name: string;
  /** Tells the file from the others of the spool. */
  readonly id: number;
  readonly blocks: BlockCache;
  readonly checkpoint: Checkpoint;
}

function createDiskFile({ descriptor, path, name, id, blocks, checkpoint }: DiskFile): SpoolFile {
  let written = 0;
  let state: 'growing' | 'broken' | 'whole' | 'discarded' = 'growing';
  let appending = false;
  /** Reads and the append under way: the descriptor is closed after them. */
  const busy = new Set<Promise<unknown>>();
  let discarded: Promise<void> | null = null;

  const fault = (operation: string, why: string): StorageError =>
    new StorageError(`Cannot ${operation} spooled ${JSON.stringify(name)}: ${why}`);
  const whileBusy = async <Result>(operation: string, work: Promise<Result>): Promise<Result> => {
    busy.add(work);
    try {
      return await orFailed(operation, name, work);
    } finally {
      busy.delete(work);
    }
  };

  return {
    get written() {
      return written;
    },

    async append(chunk) {
      await checkpoint('spool:append');
      if (state !== 'growing') throw fault('append to', `it is ${state}`);
      if (appending) throw fault('append to', 'another append is under way');
      appending = true;
      try {
        await whileBusy('append to', writeAll(descriptor, chunk, written));
      } catch (error) {
        // A part may be on the disk: what is handed over must not have it at its end.
        state = state === 'growing' ? 'broken' : state;
        throw error;
      } finally {
        appending = false;
      }
      written += chunk.length;
    },

    async read(position, maxLength) {
      if (state === 'discarded') throw fault('read', 'it is discarded');
      assertReadable(position, maxLength, written);
      const index = Math.floor(position / BLOCK_SIZE);
      const start = index * BLOCK_SIZE;
      if (start + BLOCK_SIZE > written) {
        // The end still grows: nothing to share yet.
        return whileBusy('read', readBytes(descriptor, position, Math.min(maxLength, written - position)));
      }
      const load = (): Promise<Uint8Array> => readBytes(descriptor, start, BLOCK_SIZE);
      const block = await whileBusy('read', blocks.get(id, index, load));
      return block.subarray(position - start, position - start + maxLength);
    },

    source() {
      if (state === 'broken' || state === 'discarded') throw fault('hand over', `it is ${state}`);
      state = 'whole';
      return { kind: 'file', path, size: written };
    },

    discard() {
      state = 'discarded';
      discarded ??= (async () => {
        await checkpoint('spool:discard');
        await Promise.allSettled(busy);
        closeSync(descriptor);
        await orFailed('discard', name, unlinkIfThere(path));
      })();
      return discarded;
    },
  };
}

async function readBytes(descriptor: number, position: number, length: number): Promise<Uint8Array> {
  const bytes = Buffer.allocUnsafeSlow(length);
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await read(descriptor, bytes, filled, length - filled, position + filled);
    if (bytesRead === 0) throw new Error('the file was shortened');
    filled += bytesRead;
  }
  return bytes;
}

async function writeAll(descriptor: number, chunk: Uint8Array, position: number): Promise<void> {
  let at = 0;
  while (at < chunk.length) {
    const { bytesWritten } = await write(descriptor, chunk, at, chunk.length - at, position + at);
    at += bytesWritten;
  }
}

/** A store that took the file over has moved it away. */
async function unlinkIfThere(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
  }
}

async function orFailed<Result>(operation: string, what: string, work: Promise<Result>): Promise<Result> {
  try {
    return await work;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new StorageError(`Cannot ${operation} spooled ${JSON.stringify(what)}: ${why}`, { cause: error });
  }
}
