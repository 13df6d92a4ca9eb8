import type { ByteStream } from '../stream/byte-stream.ts';

/**
 * Where bodies live: NARs, narinfos, listings, under the keys of the storage layout (law 8).
 *
 * What every driver promises, and the contract suite checks:
 * - A `put` is atomic: before it resolves a reader sees the old object or none, afterwards the whole
 *   new one, also after a crash at any instant. A `put` whose source throws leaves nothing.
 * - Absent is `null`. Anything else that goes wrong (permission, network, disk) is thrown as
 *   `StorageError`; a 403 is a fault, never a miss.
 * - Every method may be retried.
 */
export interface BlobStore {
  /** For logs and `/readyz`: the scheme and place without any secret, as `file:/var/lib/snowcap`. */
  readonly description: string;

  /** Bytes of memory that one `put` of a stream holds at most; absent where it is no more than a chunk of the source. */
  readonly putMemory?: number;

  /**
   * Opens an object in one storage operation. A body below `INLINE_BODY_LIMIT` comes as bytes; a larger
   * one as a stream that the caller must read to its end or leave (`return()`), else it leaks.
   *
   * @returns null if there is no such object; `{ kind: 'unsatisfiable' }` if it lies wholly before the range
   */
  get(key: string, options?: GetOptions): Promise<StoredBlob | UnsatisfiableRange | null>;

  /** Size and time of an object without its body; null if absent. */
  head(key: string): Promise<BlobInfo | null>;

  /**
   * Stores an object. A `stream` source is read to its end; if it throws, or its length is not the
   * `size` given, nothing is stored and the error is passed on; where a put fails, the source is left. A `file` source is taken over: the
   * driver may move it, and it is gone from its old place afterwards (if the put fails, it is still there).
   */
  put(key: string, source: BlobSource, options?: PutOptions): Promise<PutResult>;

  /** Deletes objects; absent ones are no error. Any number of keys. */
  delete(keys: readonly string[]): Promise<void>;

  /** Every object whose key begins with `prefix`, in ascending key order (by code unit), lazily and without limit. */
  list(prefix: string, options?: ListOptions): AsyncIterable<BlobInfo>;

  /**
   * Removes what interrupted writes left behind.
   *
   * @param olderThan milliseconds since the epoch; leftovers of live writers are newer, or known to be theirs
   * @param options.dryRun only counts them. Default false
   */
  sweep(olderThan: number, options?: SweepOptions): Promise<SweepResult>;

  /**
   * A URL from which anybody can GET this object without credentials, ranges included, whether it is there
   * or not: makes no request. A HEAD of it may be refused: what S3 signs is one method. Absent where the store cannot
   * be reached by clients.
   *
   * @param options.expiresInSeconds the longest that the URL works; less where the credentials behind it end sooner
   * @throws StorageError
   */
  createDownloadUrl?(key: string, options: DownloadUrlOptions): Promise<string>;

  /** Cheap proof that the store can be reached. @throws StorageError */
  ping(): Promise<void>;

  close(): Promise<void>;
}

/** Bodies up to this many bytes are read whole and given as bytes. */
export const INLINE_BODY_LIMIT: number = 256 * 1024;

/** First and last byte, both inclusive, as in RFC 9110 §14.1.2; `suffix` is the number of last bytes. */
export type ByteRange = { readonly start: number; readonly end?: number } | { readonly suffix: number };

export interface GetOptions {
  readonly range?: ByteRange;
  readonly signal?: AbortSignal;
}

export interface PutOptions {
  readonly contentType?: string;
  /** Leave an object that is already there as it is; the result says so. */
  readonly ifAbsent?: boolean;
  /**
   * The object can be had again: it may be gone when the machine itself goes down right after the put, though
   * never partial. Saves a file store half of its waiting for the disk.
   */
  readonly mayVanish?: boolean;
  readonly signal?: AbortSignal;
}

export interface DownloadUrlOptions {
  readonly expiresInSeconds: number;
}

export interface ListOptions {
  /** Only keys that come strictly after this one. */
  readonly after?: string;
}

export type BlobSource =
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  | { readonly kind: 'stream'; readonly stream: ByteStream; readonly size?: number }
  /** A whole file on a local disk, handed over. */
  | { readonly kind: 'file'; readonly path: string; readonly size: number };

export interface PutResult {
  /** False where `ifAbsent` met an object. */
  readonly written: boolean;
  /** Bytes of the object that is there now. */
  readonly size: number;
}

export interface BlobInfo {
  readonly key: string;
  /** Bytes. */
  readonly size: number;
  /** Milliseconds since the epoch. */
  readonly modifiedAt: number;
}

export interface StoredBlob extends BlobInfo {
  readonly kind: 'found';
  /** The bytes that the body covers, both inclusive; the whole object has `start` 0. */
  readonly start: number;
  readonly end: number;
  readonly body: BlobBody;
}

export interface UnsatisfiableRange {
  readonly kind: 'unsatisfiable';
  /** Bytes of the whole object. */
  readonly size: number;
}

export type BlobBody =
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  | { readonly kind: 'stream'; readonly stream: ByteStream };

export interface SweepOptions {
  readonly dryRun?: boolean;
}

/** What was removed; in a dry run, what would have been. */
export interface SweepResult {
  readonly removed: number;
  /** Bytes. */
  readonly freed: number;
}

/** A store that could not do what was asked. The message names the operation and the key. */
export class StorageError extends Error {
  override readonly name = 'StorageError';
}

/** A key that cannot be stored: thrown before anything is touched. */
export class InvalidKeyError extends Error {
  override readonly name = 'InvalidKeyError';

  constructor(key: string, why: string) {
    super(`Invalid storage key ${JSON.stringify(key)}: ${why}`);
  }
}

const SEGMENT = /^[0-9A-Za-z_+=?!@~,:-][0-9A-Za-z._+=?!@~,:-]*$/;

/**
 * Checks a key: segments of safe characters joined by `/`, none of them beginning with a dot (so
 * that none is `..`, and drivers may keep their own files under dotted names).
 *
 * @throws InvalidKeyError
 */
export function assertKey(key: string): void {
  if (key.length === 0 || key.length > 512) throw new InvalidKeyError(key, 'expected 1 to 512 characters');
  for (const segment of key.split('/')) {
    if (segment.length > 200) throw new InvalidKeyError(key, 'a segment has more than 200 characters');
    if (!SEGMENT.test(segment)) {
      throw new InvalidKeyError(
        key,
        `segment ${JSON.stringify(segment)} is empty, begins with a dot or has an unsafe character`,
      );
    }
  }
}

/** Whether a name is a key: what is stored beside, under names that are none, is not of the store. */
export function isKey(name: string): boolean {
  try {
    assertKey(name);
    return true;
  } catch (error) {
    if (error instanceof InvalidKeyError) return false;
    throw error;
  }
}

/**
 * Checks the prefix of a listing: the beginning of some key, so that it leads nowhere outside either.
 *
 * @throws InvalidKeyError
 */
export function assertPrefix(prefix: string): void {
  if (prefix !== '') assertKey(prefix.endsWith('/') ? prefix.slice(0, -1) : prefix);
}

/**
 * The bytes of an object of `size` bytes that a range asks for, both inclusive.
 *
 * @returns null where the range covers nothing (RFC 9110 §14.1.2: unsatisfiable)
 */
export function resolveRange(
  range: ByteRange | undefined,
  size: number,
): { readonly start: number; readonly end: number } | null {
  if (range === undefined) return { start: 0, end: size - 1 };
  if ('suffix' in range) {
    if (range.suffix <= 0 || size === 0) return null;
    return { start: Math.max(0, size - range.suffix), end: size - 1 };
  }
  if (range.start >= size || (range.end ?? range.start) < range.start) return null;
  return { start: range.start, end: Math.min(range.end ?? size - 1, size - 1) };
}
