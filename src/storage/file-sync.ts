import { closeSync, fsync as fsyncCallback, openSync } from 'node:fs';
import { promisify } from 'node:util';
import { errorCode } from './writer-folder.ts';

const fsync = promisify(fsyncCallback);

/**
 * How many fsyncs run at once in this process. Each holds one of the four threads of the pool for as long as the disk
 * takes; with all four gone, every other read, signature and name look-up would wait for the disk as well.
 */
const MOST_AT_ONCE = 2;

let running = 0;
const waiting: (() => void)[] = [];

/** Makes the contents of an open file durable. */
export async function syncFile(descriptor: number): Promise<void> {
  if (running >= MOST_AT_ONCE) await new Promise<void>((resolve) => waiting.push(resolve));
  running++;
  try {
    await fsync(descriptor);
  } finally {
    running--;
    waiting.shift()?.();
  }
}

/** The next sync of each directory that has not begun yet: it serves all who ask until then. */
const upcoming = new Map<string, Promise<void>>();
/** The sync of each directory that is under way. */
const underway = new Map<string, Promise<void>>();

/**
 * Makes the names in a directory durable, as they are now. Calls that come while the directory is being synced share the
 * sync after that one. Where the file system cannot do it, it has nothing to do.
 */
export function syncDirectory(path: string): Promise<void> {
  const next = upcoming.get(path);
  if (next !== undefined) return next;
  const sync = (underway.get(path) ?? Promise.resolve()).then(
    () => begin(path),
    () => begin(path),
  );
  upcoming.set(path, sync);
  return sync;

  function begin(directory: string): Promise<void> {
    upcoming.delete(directory);
    const begun = syncNow(directory).finally(() => {
      if (underway.get(directory) === begun) underway.delete(directory);
    });
    underway.set(directory, begun);
    return begun;
  }
}

async function syncNow(path: string): Promise<void> {
  const descriptor = openSync(path, 'r');
  try {
    await syncFile(descriptor);
  } catch (error) {
    if (errorCode(error) !== 'EINVAL') throw error;
  } finally {
    closeSync(descriptor);
  }
}
