import { orLeaveSource } from './blob-source.ts';
import { assertKey, assertPrefix, isKey, StorageError } from './blob-store.ts';
import type {
  BlobInfo,
  BlobSource,
  BlobStore,
  DownloadUrlOptions,
  ListOptions,
  PutOptions,
  PutResult,
} from './blob-store.ts';
import { persistently } from './r2-binding.ts';
import type { R2BucketLike, Sleep } from './r2-binding.ts';
import { headObject, readObject } from './r2-read.ts';
import type { R2Place } from './r2-read.ts';
import { putBytes, putStream } from './r2-write.ts';

/** What `createR2Store` takes. */
export interface R2StoreOptions {
  /** The binding of the bucket. */
  readonly bucket: R2BucketLike;
  /** As in `BlobStore`: `r2:` and the name of the binding. */
  readonly description: string;
  /**
   * Put before every key, as `cache/`: for a bucket that has other things too. A plain Nix client needs it in its URL.
   *
   * @default ''
   */
  readonly prefix?: string;
  /**
   * Bytes of a part of a multipart upload, and what fits into a put without one. From 5 MiB (R2's limit) to 16 MiB.
   *
   * @default 8388608
   */
  readonly partSize?: number;
  /**
   * Makes URLs for clients: the binding cannot, as that takes an access key of R2's S3 API. Is given the keys of this
   * store, without the prefix.
   */
  readonly createDownloadUrl?: (key: string, options: DownloadUrlOptions) => Promise<string>;
  /** Waits before another attempt. For tests. */
  readonly sleep?: Sleep;
}

const MIB = 1024 * 1024;
/** R2's limits for one call. */
const KEYS_AT_ONCE = 1000;

/**
 * Objects in a bucket of Cloudflare R2, over its binding: on Workers only. Requests that fail in passing are
 * repeated; streams of a put are not, as they cannot be read twice.
 *
 * Uploads that a killed isolate left cannot be listed over the binding, so `sweep` finds nothing. R2 aborts them
 * itself, after 7 days unless the bucket's lifecycle rules say otherwise
 * (https://developers.cloudflare.com/r2/buckets/object-lifecycles/).
 *
 * @throws StorageError for a part size or a prefix that cannot be
 */
export function createR2Store(options: R2StoreOptions): BlobStore {
  const { bucket, description, prefix = '', partSize = 8 * MIB, createDownloadUrl } = options;
  const sleep = options.sleep ?? realSleep;
  if (!Number.isInteger(partSize) || partSize < 5 * MIB || partSize > 16 * MIB) {
    throw new StorageError(`Invalid part size ${partSize}: expected 5 to 16 MiB`);
  }
  assertPrefix(prefix);
  const placeOf = (key: string): R2Place => {
    assertKey(key);
    return { bucket, key, fullKey: prefix + key, sleep };
  };

  return {
    description,
    putMemory: partSize,
    get: async (key, request) => readObject(placeOf(key), request),
    head: async (key) => headObject(placeOf(key)),
    put: (key, source, request = {}) =>
      orLeaveSource(source, () => put(placeOf(key), source, partSize, request)),

    async delete(keys): Promise<void> {
      const places = keys.map(placeOf);
      for (let at = 0; at < places.length; at += KEYS_AT_ONCE) {
        const some = places.slice(at, at + KEYS_AT_ONCE);
        const what = some.length === 1 ? (some[0]?.key ?? '') : `${some.length} objects`;
        await persistently('delete', what, sleep, () => bucket.delete(some.map(({ fullKey }) => fullKey)));
      }
    },

    list(listPrefix, request) {
      assertPrefix(listPrefix);
      return list(options, sleep, listPrefix, request);
    },

    async sweep() {
      return { removed: 0, freed: 0 };
    },

    ...(createDownloadUrl === undefined
      ? {}
      : {
          async createDownloadUrl(key: string, request: DownloadUrlOptions): Promise<string> {
            assertKey(key);
            return createDownloadUrl(key, request);
          },
        }),

    async ping() {
      await headObject(placeOf('nix-cache-info'));
    },

    async close() {},
  };
}

async function put(
  place: R2Place,
  source: BlobSource,
  partSize: number,
  options: PutOptions,
): Promise<PutResult> {
  options.signal?.throwIfAborted();
  switch (source.kind) {
    case 'bytes':
      return putBytes(place, source.bytes, options);
    case 'stream':
      return putStream(place, source, partSize, options);
    case 'file':
      throw new StorageError(`Cannot store ${JSON.stringify(place.key)}: there are no files on Workers`);
  }
}

async function* list(
  { bucket, prefix = '' }: R2StoreOptions,
  sleep: Sleep,
  listPrefix: string,
  options: ListOptions = {},
): AsyncGenerator<BlobInfo, void, void> {
  let after = options.after;
  for (;;) {
    // From the last key on rather than by R2's cursor, which is only good for a while.
    const startAfter = after === undefined ? {} : { startAfter: prefix + after };
    const page = await persistently('list', listPrefix, sleep, () =>
      bucket.list({ prefix: prefix + listPrefix, ...startAfter, limit: KEYS_AT_ONCE }),
    );
    for (const object of page.objects) {
      after = object.key.slice(prefix.length);
      // Objects whose names are no keys are not of the store.
      if (isKey(after)) yield { key: after, size: object.size, modifiedAt: object.uploaded.getTime() };
    }
    if (!page.truncated) return;
    if (page.objects.length === 0) {
      throw new StorageError(
        `Cannot list ${JSON.stringify(listPrefix)}: R2 gave a page without objects before the end`,
      );
    }
  }
}

function realSleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
  });
}
