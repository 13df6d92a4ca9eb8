import type { BlobSource } from '../storage/blob-store.ts';

/**
 * Where a fill in flight puts its body: written once, read by any number of followers while it grows, then
 * handed to the store. How much may lie there at once is the business of whoever creates files.
 */
export interface Spool {
  /** For logs: the kind and place, as `disk:/var/lib/snowcap/.snowcap/spool`. */
  readonly description: string;
  /**
   * Begins a file. Each must be discarded in the end.
   *
   * @param name of what is written, for messages; several files may have the same
   * @throws StorageError
   */
  create(name: string): Promise<SpoolFile>;
  /** To be called when every file is discarded. */
  close(): Promise<void>;
}

/** A body that grows. One writer; any number of readers at once. */
export interface SpoolFile {
  /** Bytes that can be read. Grows when an append resolves. */
  readonly written: number;

  /**
   * Adds a chunk; one call at a time. The chunk may be reused once the call has resolved.
   *
   * @throws StorageError where the chunk could not be stored (no space left): `written` is what it was before,
   *   those bytes stay readable, and every further append throws
   */
  append(chunk: Uint8Array): Promise<void>;

  /**
   * Reads at a position below `written`. The bytes are the reader's to look at, not to change.
   *
   * @param position in bytes from the start of the body
   * @param maxLength the most bytes that are wanted, at least 1
   * @returns at least one byte, and no more than are written: a reader asks again for what is missing
   * @throws RangeError if `position` is not below `written`, or `maxLength` is not positive; StorageError if the
   *   bytes cannot be read or the file is discarded
   */
  read(position: number, maxLength: number): Promise<Uint8Array>;

  /**
   * The whole body for `BlobStore.put`; nothing can be appended afterwards. A store may move what it is
   * given: reads go on all the same, until `discard`.
   *
   * @throws StorageError if an append failed, or the file is discarded
   */
  source(): BlobSource;

  /** Frees what the file takes, after the reads under way. Idempotent; what a store took over stays. */
  discard(): Promise<void>;
}

/**
 * The rules of `SpoolFile.read`, for every spool.
 *
 * @throws RangeError
 */
export function assertReadable(position: number, maxLength: number, written: number): void {
  if (!Number.isInteger(position) || position < 0 || position >= written) {
    throw new RangeError(`Cannot read at position ${position}: ${written} bytes are written`);
  }
  if (!Number.isInteger(maxLength) || maxLength < 1) {
    throw new RangeError(`Cannot read ${maxLength} bytes: expected a positive number`);
  }
}
