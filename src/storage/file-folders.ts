import { mkdir, realpath } from 'node:fs/promises';
import { StorageError } from './blob-store.ts';
import { syncDirectory } from './file-sync.ts';
import { errorCode } from './writer-folder.ts';

/** Folders known to be good; past this many they are looked at anew. */
const KNOWN_LIMIT = 4096;

/**
 * The folders of a file store, by the part of the key before its last `/` (the root: the empty string). None is
 * used before it was seen to be a real one inside the root: a symbolic link among them is an error, wherever it
 * leads (a mount does what a link might be wanted for). That is checked when this process first meets a
 * folder; whoever may replace folders in the root afterwards may as well replace the objects.
 */
export interface Folders {
  readonly root: string;
  /** The path of a key's file. Its folder is not looked at. */
  pathOf(key: string): string;
  isKnown(folder: string): boolean;
  /** Looks at the folder on disk. Returns whether it exists. @throws StorageError if it is a link or a file */
  exists(folder: string): Promise<boolean>;
  /** Makes the folder, with its parents, so that it outlives a power failure. */
  make(folder: string): Promise<void>;
  /** Drops what is known, since a folder was found missing: its parents may be too. */
  forget(): void;
}

/** The folder of a key. */
export function folderOf(key: string): string {
  return key.slice(0, Math.max(0, key.lastIndexOf('/')));
}

/**
 * @param root an existing directory, as `realpath` gives it
 * @param onMake called before a folder is made
 */
export function createFolders(root: string, onMake: () => Promise<void>): Folders {
  const known = new Set(['']);
  const pathOf = (key: string): string => (key === '' ? root : `${root}/${key}`);

  async function exists(folder: string): Promise<boolean> {
    if (known.has(folder)) return true;
    const path = pathOf(folder);
    let real: string;
    try {
      // With the slash, a file is ENOTDIR.
      real = await realpath(`${path}/`);
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return false;
      throw failed('open folder', folder, error);
    }
    if (real !== path) {
      throw new StorageError(
        `Cannot open folder ${JSON.stringify(folder)}: a symbolic link leads to ${real}`,
      );
    }
    if (known.size >= KNOWN_LIMIT) known.clear();
    known.add('').add(folder);
    return true;
  }

  /** One level at a time: making all at once would go through links before they were seen. */
  async function make(folder: string): Promise<void> {
    if (await exists(folder)) return;
    const parent = folderOf(folder);
    await make(parent);
    await onMake();
    try {
      await mkdir(pathOf(folder));
    } catch (error) {
      if (errorCode(error) !== 'EEXIST') throw failed('make folder', folder, error);
    }
    await syncDirectory(pathOf(parent)).catch((error: unknown) => {
      throw failed('make folder', folder, error);
    });
    if (!(await exists(folder)))
      throw new StorageError(`Cannot make folder ${JSON.stringify(folder)}: it is gone again`);
  }

  return {
    root,
    pathOf,
    isKnown: (folder) => known.has(folder),
    exists,
    make,
    forget() {
      known.clear();
      known.add('');
    },
  };
}

/** The error for a key, or for a folder. */
export function failed(operation: string, key: string, error: unknown): StorageError {
  const why = error instanceof Error ? error.message : String(error);
  return new StorageError(`Cannot ${operation} ${JSON.stringify(key)}: ${why}`, { cause: error });
}
