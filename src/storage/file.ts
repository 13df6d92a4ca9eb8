import { lstatSync } from 'node:fs';
import { access, constants, lstat, mkdir, realpath, unlink } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { assertKey, assertPrefix, INLINE_BODY_LIMIT, StorageError } from './blob-store.ts';
import type { BlobInfo, BlobStore } from './blob-store.ts';
import { orLeaveSource } from './blob-source.ts';
import { createFolders, failed, folderOf } from './file-folders.ts';
import type { Folders } from './file-folders.ts';
import { listObjects } from './file-list.ts';
import { createPace } from './file-pace.ts';
import type { Pace } from './file-pace.ts';
import { assertRegular, readObject } from './file-read.ts';
import { syncDirectory } from './file-sync.ts';
import { writeObject } from './file-write.ts';
import { errorCode, openWriterFolder } from './writer-folder.ts';
import type { WriterFolder } from './writer-folder.ts';

/** What `createFileStore` takes. */
export interface FileStoreOptions {
  /** Where the objects are; made if it is missing. */
  readonly root: string;
  /**
   * Make and remove nothing, as where the root cannot be written: puts and deletes are refused.
   *
   * @default false
   */
  readonly readOnly?: boolean;
  /**
   * Milliseconds since the epoch, to tell the age of what other machines left behind.
   *
   * @default Date.now
   */
  readonly now?: () => number;
  /** Called with the name of each write step just before it is taken, as `file-store:rename`. For tests. */
  readonly checkpoint?: (step: string) => void | Promise<void>;
  /**
   * Bodies up to this many bytes are given as bytes.
   *
   * @default INLINE_BODY_LIMIT
   */
  readonly inlineLimit?: number;
}

/** Milliseconds for which the files of a writer on another machine are left alone at start. */
const FOREIGN_LEFTOVER_AGE = 24 * 60 * 60 * 1000;
const READ_ONLY = new Error('it was opened for reading');
/** Files deleted together. */
const DELETE_BATCH = 64;

/**
 * Objects as files under `root`, each at its key: a plain Nix client can use the folder as a binary cache
 * (`file://<root>`). Unfinished files are in `<root>/.snowcap/tmp`, which no key reaches, and which must be on the
 * file system of the objects (no mounts below the root).
 *
 * - A put is a file of its own, fsync, rename (or link, where an existing object stays), fsync of the
 *   directory. Hard links are required.
 * - Symbolic links below the root are errors, never followed (see `Folders` for when that is looked at);
 *   the root itself may be reached through some.
 * - Modes follow the umask. Empty folders stay: removing them would race with a put into them.
 * - Leftovers of killed processes are removed at once where they are known to be dead, here and by `sweep`.
 *
 * @throws StorageError if the root cannot be made, or cannot be written; with `readOnly`, if it is not there
 */
export async function createFileStore(options: FileStoreOptions): Promise<BlobStore> {
  const now = options.now ?? Date.now;
  const inlineLimit = options.inlineLimit ?? INLINE_BODY_LIMIT;
  const checkpoint = async (step: string): Promise<void> => {
    await options.checkpoint?.(step);
  };
  const readOnly = options.readOnly === true;
  const root = await openRoot(options.root, readOnly);
  const writer = readOnly ? null : await openWriter(root, now() - FOREIGN_LEFTOVER_AGE);
  const folders = createFolders(root, () => checkpoint('file-store:make-directory'));
  const reading = {
    folders,
    inlineLimit,
    pace: createPace(
      () => performance.now(),
      () => process.resourceUsage().fsRead,
    ),
  };

  return {
    description: `file:${root}`,
    async get(key, request) {
      assertKey(key);
      return readObject(reading, key, request);
    },
    async head(key) {
      assertKey(key);
      return headObject(reading, key);
    },
    async put(key, source, request) {
      return orLeaveSource(source, async () => {
        assertKey(key);
        if (writer === null) throw failed('store', key, READ_ONLY);
        return writeObject({ folders, writer, checkpoint }, key, source, request);
      });
    },
    async delete(keys) {
      for (const key of keys) assertKey(key);
      if (writer === null) throw failed('delete from', root, READ_ONLY);
      await deleteObjects(folders, keys, checkpoint);
    },
    list(prefix, request) {
      assertPrefix(prefix);
      return listObjects(folders, prefix, request?.after ?? '');
    },
    sweep: async (olderThan, request) =>
      writer === null
        ? { removed: 0, freed: 0 }
        : await orFailed('sweep', root, writer.sweep(olderThan, request)),
    // With the slash, a file in place of the root is an error too.
    ping: () => orFailed('reach', root, access(`${root}/`, modeOf(readOnly))),
    close: async () => writer?.close(),
  };
}

async function openRoot(path: string, readOnly: boolean): Promise<string> {
  if (!readOnly) await orFailed('make', path, mkdir(path, { recursive: true }));
  return orFailed('open', path, realpath(resolve(path)));
}

async function openWriter(root: string, olderThan: number): Promise<WriterFolder> {
  const writer = await orFailed('open', root, openWriterFolder(join(root, '.snowcap', 'tmp')));
  await orFailed('sweep', root, writer.sweep(olderThan));
  return writer;
}

function modeOf(readOnly: boolean): number {
  return constants.R_OK | constants.X_OK | (readOnly ? 0 : constants.W_OK);
}

async function headObject(
  { folders, pace }: { readonly folders: Folders; readonly pace: Pace },
  key: string,
): Promise<BlobInfo | null> {
  if (!(await folders.exists(folderOf(key)))) return null;
  try {
    const path = folders.pathOf(key);
    const stat = pace.mayBlock() ? pace.time(() => lstatSync(path)) : await lstat(path);
    assertRegular('read', key, stat);
    return { key, size: stat.size, modifiedAt: Math.floor(stat.mtimeMs) };
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return null;
    throw error instanceof StorageError ? error : failed('read', key, error);
  }
}

/** Durable too: after a crash, a narinfo must not be back whose NAR is gone. */
async function deleteObjects(
  folders: Folders,
  keys: readonly string[],
  checkpoint: (step: string) => Promise<void>,
): Promise<void> {
  const changed = new Set<string>();
  for (let at = 0; at < keys.length; at += DELETE_BATCH) {
    await checkpoint('file-store:delete');
    await Promise.all(
      keys.slice(at, at + DELETE_BATCH).map(async (key) => {
        const folder = folderOf(key);
        if (!(await folders.exists(folder))) return;
        try {
          await unlink(folders.pathOf(key));
          changed.add(folder);
        } catch (error) {
          if (errorCode(error) !== 'ENOENT') throw failed('delete', key, error);
        }
      }),
    );
  }
  for (const folder of changed) {
    await checkpoint('file-store:sync-directory');
    await orFailed('delete from', folder, syncDirectory(folders.pathOf(folder)));
  }
}

async function orFailed<Result>(operation: string, place: string, work: Promise<Result>): Promise<Result> {
  try {
    return await work;
  } catch (error) {
    throw failed(operation, place, error);
  }
}
