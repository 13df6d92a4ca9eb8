import type { S3ClientConfig } from '@aws-sdk/client-s3';
import { assertKey } from '../blob-store.ts';
import type { FileAccess } from './file-source.ts';

const MIB = 1024 * 1024;
/** S3's least size of a part that is not the last. */
const MIN_PART_SIZE = 5 * MIB;
/** S3's greatest number of parts of one upload. */
export const MAX_PARTS = 10_000;

/** Keys that are written down; anything else comes as a function or from the environment of the SDK. */
export interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  /** When they end, where they do: presigned URLs end before. */
  readonly expiration?: Date;
}

/** What `createS3Store` takes. */
export interface S3StoreOptions {
  readonly bucket: string;
  /**
   * Folder of the bucket that is the store, without a slash at either end.
   *
   * @default '' the whole bucket
   */
  readonly prefix?: string;
  /**
   * As `eu-central-1`; `auto` for R2. Left out: what the SDK finds in the environment (on Node and Lambda
   * alone).
   */
  readonly region?: string;
  /** As `https://account.r2.cloudflarestorage.com`. Left out: that of AWS for the region. */
  readonly endpoint?: string;
  /**
   * The endpoint as clients reach it, for download URLs.
   *
   * @default endpoint
   */
  readonly publicEndpoint?: string;
  /**
   * `https://endpoint/bucket/key` rather than `https://bucket.endpoint/key`.
   *
   * @default false
   */
  readonly pathStyle?: boolean;
  /** Left out: the default chain of the SDK (environment, files, roles), which Node and Lambda alone have. */
  readonly credentials?: S3Credentials | (() => Promise<S3Credentials>);
  /**
   * Bytes of a part of a multipart upload, at least 5 MiB; bodies up to this size are one request. S3 takes
   * 10,000 parts, so this bounds a body too: 78 GiB with 8 MiB.
   *
   * @default 8 MiB
   */
  readonly partSize?: number;
  /**
   * Parts of one body under way at once. A put holds `partSize * (concurrency + 1)` bytes at most.
   *
   * @default 3
   */
  readonly concurrency?: number;
  /**
   * Whether the server knows `If-None-Match: *` on writes. With false, and once it said that it does not,
   * `ifAbsent` looks first and then writes: of two writers at the same time, both may write, and the last one
   * stays.
   *
   * @default true
   */
  readonly conditionalWrites?: boolean;
  /**
   * Attempts of one request, the first included.
   *
   * @default 4
   */
  readonly maxAttempts?: number;
  /**
   * Milliseconds until the head of an answer; what is sent before it has more, by its size.
   *
   * @default 30_000
   */
  readonly requestTimeoutMs?: number;
  /**
   * Milliseconds that a body may stand still while it is read.
   *
   * @default 30_000
   */
  readonly idleTimeoutMs?: number;
  /**
   * The connections, as the SDK takes them: `s3ForNode` has those for Node. Left out: the SDK's own (`fetch`
   * on Workers).
   */
  readonly requestHandler?: NonNullable<S3ClientConfig['requestHandler']>;
  /** Opens sources of kind `file`. Left out: they are refused, as where there are no files. */
  readonly files?: FileAccess;
  /**
   * Milliseconds since the epoch.
   *
   * @default Date.now
   */
  readonly now?: () => number;
  /**
   * Between 0 and 1, for the jitter of waits.
   *
   * @default Math.random
   */
  readonly random?: () => number;
  /**
   * A name that no other write has, to know an object of ours again when the answer of its write was lost.
   *
   * @default crypto.randomUUID
   */
  readonly newWriteId?: () => string;
}

/** The options with their defaults; those that have none stay as they are. */
export interface S3Settings extends S3StoreOptions {
  /** Empty, or with a slash at its end. */
  readonly prefix: string;
  readonly partSize: number;
  readonly concurrency: number;
  readonly conditionalWrites: boolean;
  readonly maxAttempts: number;
  readonly requestTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly now: () => number;
  readonly random: () => number;
  readonly newWriteId: () => string;
}

/**
 * @throws RangeError for a size or number that S3 does not take
 * @throws InvalidKeyError for a prefix that is none
 */
export function withDefaults(options: S3StoreOptions): S3Settings {
  const { prefix = '', partSize = 8 * MIB, concurrency = 3, maxAttempts = 4 } = options;
  if (!Number.isInteger(partSize) || partSize < MIN_PART_SIZE || partSize > 5 * 1024 * MIB) {
    throw new RangeError(`S3 part size ${partSize} is not between 5 MiB (${MIN_PART_SIZE}) and 5 GiB`);
  }
  if (!Number.isInteger(concurrency) || concurrency < 1) {
    throw new RangeError(`S3 concurrency ${concurrency} is not a whole number of at least 1`);
  }
  if (!Number.isInteger(maxAttempts) || maxAttempts < 1) {
    throw new RangeError(`S3 attempts ${maxAttempts} is not a whole number of at least 1`);
  }
  if (prefix !== '') assertKey(prefix);
  return {
    ...options,
    prefix: prefix === '' ? '' : `${prefix}/`,
    partSize,
    concurrency,
    conditionalWrites: options.conditionalWrites ?? true,
    maxAttempts,
    requestTimeoutMs: options.requestTimeoutMs ?? 30_000,
    idleTimeoutMs: options.idleTimeoutMs ?? 30_000,
    now: options.now ?? Date.now,
    random: options.random ?? Math.random,
    newWriteId: options.newWriteId ?? (() => crypto.randomUUID()),
  };
}
