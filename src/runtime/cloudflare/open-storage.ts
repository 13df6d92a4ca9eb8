import type { Config } from '../../config/config.ts';
import type { BlobStore } from '../../storage/blob-store.ts';
import { createR2Store } from '../../storage/r2.ts';
import { s3OptionsOf } from '../s3-options.ts';
import { bindingOf, isR2Bucket, type WorkerEnv } from './bindings.ts';

/** What the parts of one upload may take together, in bytes: an isolate has 128 MB for all of its requests. */
const UPLOAD_BYTES = 16 * 2 ** 20;

/** @throws Error for a kind that is not there on Workers, which the configuration refuses before */
export async function openStorage({ storage, awsCredentials }: Config, env: WorkerEnv): Promise<BlobStore> {
  switch (storage.kind) {
    case 'r2': {
      const bucket = bindingOf(env, storage.binding, isR2Bucket);
      return createR2Store({ bucket, description: `r2:${storage.binding}` });
    }
    case 's3': {
      // The SDK is loaded by the first request that needs it: its modules take time to run.
      const { createS3Store } = await import('../../storage/s3/s3.ts');
      const partSize = Math.min(storage.partSize, UPLOAD_BYTES / 2);
      // One part is filled while the others are sent.
      const concurrency = Math.min(storage.concurrency, Math.floor(UPLOAD_BYTES / partSize) - 1);
      return createS3Store(s3OptionsOf({ ...storage, partSize, concurrency }, awsCredentials));
    }
    case 'file':
      throw new Error('There are no files on Workers');
  }
}
