import { StorageError } from './blob-store.ts';

/**
 * What is used of the binding of an R2 bucket (`R2Bucket` of @cloudflare/workers-types fits), so that the driver is
 * checked without the types of any runtime.
 */
export interface R2BucketLike {
  head(key: string): Promise<R2ObjectLike | null>;
  get(key: string, options?: { range?: R2RangeLike }): Promise<R2ObjectBodyLike | null>;
  /** @returns null where the condition does not hold */
  put(
    key: string,
    value: ReadableStream | Uint8Array,
    options?: R2PutOptionsLike,
  ): Promise<R2ObjectLike | null>;
  createMultipartUpload(
    key: string,
    options?: { httpMetadata?: R2HttpMetadataLike },
  ): Promise<R2MultipartUploadLike>;
  /** At most 1,000 keys. */
  delete(keys: string[]): Promise<void>;
  list(options: { prefix?: string; startAfter?: string; limit?: number }): Promise<R2ListingLike>;
}

export interface R2ObjectLike {
  readonly key: string;
  /** Bytes of the whole object. */
  readonly size: number;
  readonly uploaded: Date;
}

export interface R2ObjectBodyLike extends R2ObjectLike {
  readonly body: R2BodyLike;
  arrayBuffer(): Promise<ArrayBuffer>;
}

export interface R2BodyLike {
  getReader(options: { mode: 'byob' }): R2BodyReaderLike;
  cancel(reason?: unknown): Promise<void>;
}

export interface R2BodyReaderLike {
  /** Fills `view` with `min` bytes or more, less only at the end. It is given away: the answer has another one. */
  read(
    view: Uint8Array,
    options: { min: number },
  ): Promise<{ done: boolean; value?: Uint8Array | undefined }>;
  cancel(reason?: unknown): Promise<void>;
}

export interface R2ListingLike {
  readonly objects: readonly R2ObjectLike[];
  readonly truncated: boolean;
}

export interface R2MultipartUploadLike {
  uploadPart(partNumber: number, value: ReadableStream): Promise<R2UploadedPartLike>;
  complete(parts: R2UploadedPartLike[]): Promise<R2ObjectLike>;
  abort(): Promise<void>;
}

export interface R2UploadedPartLike {
  partNumber: number;
  etag: string;
}

export type R2RangeLike = { offset: number; length?: number } | { suffix: number };

export interface R2HttpMetadataLike {
  contentType?: string;
}

export interface R2PutOptionsLike {
  httpMetadata?: R2HttpMetadataLike;
  onlyIf?: { etagDoesNotMatch: string };
}

/** Of the codes at the end of R2's messages (https://developers.cloudflare.com/r2/api/error-codes/). */
export const R2Code = {
  /** workerd's own, where the answer of R2 names none: it was cut, or came from something before R2. */
  unspecified: 0,
  internalError: 10_001,
  invalidRange: 10_039,
  serviceUnavailable: 10_043,
  clientDisconnect: 10_054,
  tooManyRequests: 10_058,
} as const;

/** Faults that a second attempt may well not meet: R2 takes, for one, a single write a second for each key. */
const PASSING: readonly (number | null)[] = [
  R2Code.unspecified,
  R2Code.internalError,
  R2Code.serviceUnavailable,
  R2Code.clientDisconnect,
  R2Code.tooManyRequests,
];

/** The code in an error of the binding, which has it in its message alone; null where there is none. */
export function r2CodeOf(error: unknown): number | null {
  const digits = error instanceof Error ? /\((0|\d{5,6})\)$/.exec(error.message)?.[1] : undefined;
  return digits === undefined ? null : Number(digits);
}

/** An error that names the operation and the key; the reasons of R2 name no secret. */
export function failed(operation: string, key: string, cause: unknown): StorageError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new StorageError(`Cannot ${operation} ${JSON.stringify(key)}: ${reason}`, { cause });
}

/** Waits so many milliseconds. */
export type Sleep = (milliseconds: number) => Promise<void>;

/** Milliseconds before each further attempt; with R2's one write a second for each key, the last one counts. */
const PAUSES: readonly number[] = [100, 400, 1200];

/**
 * Runs an operation that may be repeated, again where its fault is one that passes.
 *
 * @throws StorageError that names operation and key
 */
export async function persistently<Result>(
  operation: string,
  key: string,
  sleep: Sleep,
  attempt: () => Promise<Result>,
): Promise<Result> {
  for (let failures = 0; ; failures++) {
    try {
      return await attempt();
    } catch (error) {
      const pause = PAUSES[failures];
      if (pause === undefined || !PASSING.includes(r2CodeOf(error))) throw failed(operation, key, error);
      await sleep(pause);
    }
  }
}
