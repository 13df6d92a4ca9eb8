import {
  closeSync,
  constants,
  fstatSync,
  open as openCallback,
  openSync,
  read as readCallback,
  readSync,
} from 'node:fs';
import type { Stats } from 'node:fs';
import { promisify } from 'node:util';
import type { FillableStream } from '../stream/byte-stream.ts';
import { resolveRange, StorageError } from './blob-store.ts';
import type { GetOptions, StoredBlob, UnsatisfiableRange } from './blob-store.ts';
import { failed, folderOf } from './file-folders.ts';
import type { Folders } from './file-folders.ts';
import type { Pace } from './file-pace.ts';
import { errorCode } from './writer-folder.ts';

const open = promisify(openCallback);
const read = promisify(readCallback);

/** A link in the last place is an error, and opening a pipe must not wait for its other end. */
const FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/**
 * Bytes of a chunk. With 16 streams over loopback, read ahead by one: 1,490 MB/s in 64 KiB, 2,330 in
 * 128 KiB, 3,140 in 256 KiB, 2,970 in 512 KiB; without reading ahead 1,890 in 256 KiB (two cores).
 */
const CHUNK = 256 * 1024;

/** What reading a file takes of the store. */
export interface ReadContext {
  readonly folders: Folders;
  readonly pace: Pace;
  /** Bodies up to this many bytes are given as bytes. */
  readonly inlineLimit: number;
}

/**
 * Opens an object, reads it whole if it is small.
 *
 * Small files are read in the calling thread, as nginx does: each trip to the thread pool costs 40 µs
 * or more, the whole of open, stat, read and close in place 5 µs for 1 kB and 40 µs for 250 kB. A disk
 * that turns out slow is given to the thread pool (`Pace`). Measured here, warm, one file after the
 * other, 1 kB and 250 kB: `fs.promises.readFile` 7,400/s and 5,000/s; open and read in the pool, the rest in place
 * 14,800/s and 8,200/s; all in place 217,000/s and 23,000/s.
 *
 * @returns null if there is no such file
 * @throws StorageError for anything that is not a regular file, and for every other fault
 */
export async function readObject(
  context: ReadContext,
  key: string,
  options: GetOptions = {},
): Promise<StoredBlob | UnsatisfiableRange | null> {
  options.signal?.throwIfAborted();
  const { folders, pace } = context;
  const folder = folderOf(key);
  if (!folders.isKnown(folder) && !(await folders.exists(folder))) return null;
  const path = folders.pathOf(key);
  const inPlace = pace.mayBlock();
  let descriptor: number;
  try {
    descriptor = inPlace ? pace.time(() => openSync(path, FLAGS)) : await open(path, FLAGS);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return null;
    throw failed('read', key, error);
  }
  let handedOver = false;
  try {
    // In place always: the inode of an open file is in memory.
    const stat = fstatSync(descriptor);
    assertRegular('read', key, stat);
    const range = resolveRange(options.range, stat.size);
    if (range === null) return { kind: 'unsatisfiable', size: stat.size };
    const found = {
      kind: 'found',
      key,
      size: stat.size,
      modifiedAt: Math.floor(stat.mtimeMs),
      ...range,
    } as const;
    const length = range.end - range.start + 1;
    if (length <= context.inlineLimit) {
      const bytes = inPlace
        ? pace.time(() => readInPlace(descriptor, key, range.start, length))
        : await readInPool(descriptor, key, range.start, length);
      return { ...found, body: { kind: 'bytes', bytes } };
    }
    handedOver = true;
    return {
      ...found,
      body: { kind: 'stream', stream: streamFile(descriptor, key, range, pace, options.signal) },
    };
  } catch (error) {
    throw error instanceof StorageError ? error : failed('read', key, error);
  } finally {
    if (!handedOver) closeSync(descriptor);
  }
}

/** @throws StorageError for a directory, a link, a pipe or a device under a key */
export function assertRegular(operation: string, key: string, stat: Stats): void {
  if (!stat.isFile()) throw failed(operation, key, new Error('not a regular file'));
}

function readInPlace(descriptor: number, key: string, start: number, length: number): Uint8Array {
  const bytes = Buffer.allocUnsafeSlow(length);
  let filled = 0;
  while (filled < length) {
    const count = readSync(descriptor, bytes, filled, length - filled, start + filled);
    if (count === 0) throw shortened(key);
    filled += count;
  }
  return bytes;
}

async function readInPool(
  descriptor: number,
  key: string,
  start: number,
  length: number,
): Promise<Uint8Array> {
  const bytes = Buffer.allocUnsafeSlow(length);
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await read(descriptor, bytes, filled, length - filled, start + filled);
    if (bytesRead === 0) throw shortened(key);
    filled += bytesRead;
  }
  return bytes;
}

function shortened(key: string): StorageError {
  return new StorageError(
    `Cannot read ${JSON.stringify(key)}: the file was shortened while it was being read`,
  );
}

/**
 * The bytes of an open file, which is closed at the end, at an error, and when the consumer leaves. Read in place
 * like small files while the disk is quick; else in the thread pool, when iterated one chunk ahead of the consumer: at
 * most two chunks of memory.
 *
 * Not a generator: leaving one that was never asked for a chunk would run none of its code, and the
 * descriptor would leak.
 */
function streamFile(
  descriptor: number,
  key: string,
  range: { readonly start: number; readonly end: number },
  pace: Pace,
  signal: AbortSignal | undefined,
): FillableStream {
  let position = range.start;
  let ahead: Promise<Uint8Array> | null = null;
  let closed = false;

  const fetchChunk = (): Promise<Uint8Array> => {
    const length = Math.min(CHUNK, range.end + 1 - position);
    const chunk = readInPool(descriptor, key, position, length);
    position += length;
    // Whoever asks next gets the error; if nobody does, it is nobody's.
    chunk.catch(() => undefined);
    return chunk;
  };
  /** Only when no read is under way: the number of a closed file may be another's at once. */
  const close = async (): Promise<void> => {
    if (closed) return;
    closed = true;
    await ahead?.catch(() => undefined);
    closeSync(descriptor);
  };
  const fault = async (error: unknown): Promise<never> => {
    await close();
    if (error instanceof StorageError || signal?.aborted === true) throw error;
    throw failed('read', key, error);
  };
  const nextChunk = (): Uint8Array | Promise<Uint8Array> => {
    if (ahead !== null || !pace.mayBlock()) return (ahead ??= fetchChunk());
    const length = Math.min(CHUNK, range.end + 1 - position);
    const chunk = pace.time(() => readInPlace(descriptor, key, position, length));
    position += length;
    return chunk;
  };
  const iterator: AsyncIterator<Uint8Array> = {
    async next() {
      if (closed) return { done: true, value: undefined };
      try {
        signal?.throwIfAborted();
        const chunk = await nextChunk();
        signal?.throwIfAborted();
        // Left while the chunk was being read.
        if (closed) return { done: true, value: undefined };
        const pooled = ahead !== null;
        ahead = null;
        if (position > range.end) await close();
        else if (pooled) ahead = fetchChunk();
        return { done: false, value: chunk };
      } catch (error) {
        return await fault(error);
      }
    },
    async return() {
      await close();
      return { done: true, value: undefined };
    },
  };
  /** Into the reader's buffer; the promise is kept in `ahead`, so that the file is not closed beneath a read. */
  const readInto = (target: Uint8Array): number | Promise<number> => {
    const length = Math.min(target.length, range.end + 1 - position);
    if (closed || length === 0) return 0;
    try {
      signal?.throwIfAborted();
      const advance = (count: number): number => {
        if (count === 0) throw shortened(key);
        position += count;
        return count;
      };
      if (pace.mayBlock()) {
        return advance(pace.time(() => readSync(descriptor, target, 0, length, position)));
      }
      const pooled = read(descriptor, target, 0, length, position).then(({ bytesRead }) =>
        advance(bytesRead),
      );
      ahead = pooled.then(
        () => target,
        () => target,
      );
      return pooled.catch(fault);
    } catch (error) {
      return fault(error);
    }
  };
  return { [Symbol.asyncIterator]: () => iterator, readInto, leave: close };
}
