import { StorageError } from '../storage/blob-store.ts';

/** Tells an object that cannot be read or written from a storage that is at fault: of walks over all objects. */
export interface StorageFaults {
  /** Those since the last object that was well. */
  readonly inARow: number;
  /** An object was well. */
  none(): void;
  /** @returns the fault of an object; null where it is another error, or one too many in a row */
  of(error: unknown): StorageError | null;
}

/** So many faults, one after the other, and the storage is at fault, not the objects. */
const MOST = 10;

export function createStorageFaults(): StorageFaults {
  let inARow = 0;
  return {
    get inARow() {
      return inARow;
    },
    none() {
      inARow = 0;
    },
    of(error) {
      if (!(error instanceof StorageError)) return null;
      inARow += 1;
      return inARow < MOST ? error : null;
    },
  };
}
