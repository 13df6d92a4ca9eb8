import type { R2BucketLike, R2MultipartUploadLike } from '../../src/storage/r2-binding.ts';

/** A bucket that notes what is asked of it, and fails where it is told to. */
export interface WatchedBucket extends R2BucketLike {
  /** The operations in their order, as `head`, `part 5242880`, `abort`. */
  readonly operations: string[];
  /** Called before each operation with its note; what it throws is what the operation throws. */
  before: (operation: string) => void | Promise<void>;
}

export function watchBucket(bucket: R2Bucket): WatchedBucket {
  const operations: string[] = [];
  const note = async (operation: string): Promise<void> => {
    operations.push(operation);
    await watched.before(operation);
  };

  function watchUpload(upload: R2MultipartUpload): R2MultipartUploadLike {
    return {
      async uploadPart(number, value) {
        await note(`part ${number}`);
        return upload.uploadPart(number, value);
      },
      async complete(parts) {
        await note('complete');
        return upload.complete(parts);
      },
      async abort() {
        await note('abort');
        await upload.abort();
      },
    };
  }

  const watched: WatchedBucket = {
    operations,
    before: () => undefined,
    async head(key) {
      await note('head');
      return bucket.head(key);
    },
    async get(key, options) {
      await note('get');
      return bucket.get(key, options);
    },
    async put(key, value, options) {
      await note('put');
      return bucket.put(key, value, options);
    },
    async createMultipartUpload(key, options) {
      await note('create');
      return watchUpload(await bucket.createMultipartUpload(key, options));
    },
    async delete(keys) {
      await note(`delete ${keys.length}`);
      await bucket.delete(keys);
    },
    async list(options) {
      await note('list');
      return bucket.list(options);
    },
  };
  return watched;
}

/** An error as the binding throws it. */
export function r2Error(code: number, reason = 'We encountered an internal error. Please try again.'): Error {
  return new Error(`operation: ${reason} (${code})`);
}
