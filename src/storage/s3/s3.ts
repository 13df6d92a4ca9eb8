import { orLeaveSource } from '../blob-source.ts';
import { assertKey, assertPrefix } from '../blob-store.ts';
import type { BlobStore } from '../blob-store.ts';
import { createClient } from './client.ts';
import type { S3Context } from './client.ts';
import { createDownloadUrl } from './download-url.ts';
import { listObjects } from './list.ts';
import { withDefaults } from './options.ts';
import type { S3Settings, S3StoreOptions } from './options.ts';
import { checkBucket, headObject, readObject } from './read.ts';
import { deleteObjects, sweepUploads } from './remove.ts';
import { writeObject } from './write.ts';

/**
 * Objects in a bucket of S3, or of a server that speaks its API, each at its key below the prefix: a plain
 * Nix client can use `https://bucket.endpoint/prefix` as a binary cache, where the bucket may be read by it.
 *
 * - A put is one PutObject, or a multipart upload, which S3 makes visible in one step. `ifAbsent` is a
 *   condition on that step where the server has conditions (AWS, R2, MinIO): see `conditionalWrites`.
 * - What is retried: time-outs, broken connections, 429 and 5xx, with growing waits and jitter, by the SDK; a
 *   body that breaks off while it is read, here.
 * - What a killed process leaves are uploads that were not completed, which cost as objects do: `sweep`
 *   removes them, and a lifecycle rule of the bucket (docs/storage-s3.md).
 *
 * Makes no request: `ping` does.
 *
 * @throws RangeError or InvalidKeyError for options that cannot be
 */
export function createS3Store(options: S3StoreOptions): BlobStore {
  const settings = withDefaults(options);
  const context = createContext(settings);
  const signer =
    settings.publicEndpoint === undefined
      ? context.client
      : createClient(settings, settings.publicEndpoint, context.payloadHashes);
  return {
    description: describe(settings),
    putMemory: settings.partSize * (settings.concurrency + 1),
    async get(key, request) {
      assertKey(key);
      return readObject(context, key, request);
    },
    async head(key) {
      assertKey(key);
      return headObject(context, key);
    },
    put: (key, source, request) =>
      orLeaveSource(source, async () => {
        assertKey(key);
        return writeObject(context, key, source, request);
      }),
    async delete(keys) {
      for (const key of keys) assertKey(key);
      await deleteObjects(context, keys);
    },
    list(prefix, request) {
      assertPrefix(prefix);
      return listObjects(context, prefix, request?.after ?? '');
    },
    sweep: (olderThan, request) => sweepUploads(context, olderThan, request),
    async createDownloadUrl(key, { expiresInSeconds }) {
      assertKey(key);
      return createDownloadUrl(context, signer, key, expiresInSeconds);
    },
    ping: () => checkBucket(context),
    async close() {
      context.client.destroy();
      signer.destroy();
    },
  };
}

function createContext(settings: S3Settings): S3Context {
  const payloadHashes = new WeakMap<Uint8Array, string>();
  return {
    client: createClient(settings, settings.endpoint, payloadHashes),
    settings,
    bucket: settings.bucket,
    payloadHashes,
    liveUploads: new Set(),
    server: { conditionalWrites: settings.conditionalWrites, bucketSeen: false },
  };
}

function describe({ bucket, prefix, endpoint }: S3Settings): string {
  const place = `s3://${bucket}${prefix === '' ? '' : `/${prefix.slice(0, -1)}`}`;
  // The host alone: whatever else stands in a URL may be a secret.
  return endpoint === undefined ? place : `${place} at ${new URL(endpoint).host}`;
}
