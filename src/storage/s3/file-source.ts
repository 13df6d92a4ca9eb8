import { StorageError } from '../blob-store.ts';

/** Bytes read at once from a file: the parts of an upload are filled by it piece by piece. */
const CHUNK = 256 * 1024;

/** The local files of a runtime that has some. */
export interface FileAccess {
  /** @throws Error where it is missing, is no regular file, or cannot be read */
  open(path: string): Promise<OpenFile>;
  /** Removes a file; a missing one is no error. */
  remove(path: string): Promise<void>;
}

/** A file open for reading. Close it. */
export interface OpenFile {
  /** Bytes. */
  readonly size: number;
  /** Fills `target` from `position` on. @returns how many bytes, 0 at the end */
  readInto(target: Uint8Array, position: number): Promise<number>;
  close(): Promise<void>;
}

/**
 * A file as a stream whose chunks are one buffer, used again. @throws StorageError where the file is
 * shortened meanwhile
 */
export async function* fileChunks(key: string, file: OpenFile): AsyncGenerator<Uint8Array, void, void> {
  const buffer = new Uint8Array(Math.min(CHUNK, file.size));
  for (let at = 0; at < file.size;) {
    const count = await file.readInto(buffer, at);
    if (count === 0) {
      throw new StorageError(
        `Cannot store ${JSON.stringify(key)}: the file was shortened while it was being read`,
      );
    }
    at += count;
    yield buffer.subarray(0, count);
  }
}
