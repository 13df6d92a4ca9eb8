import type { AwsCredentials, Config, S3Config } from '../../config/config.ts';
import type { Platform } from '../../platform.ts';
import type { BlobStore } from '../../storage/blob-store.ts';

/** @throws StorageError where it cannot be opened, with what to do about it */
export async function openStorage(config: Config, platform: Platform): Promise<BlobStore> {
  const storage = await open(config, platform);
  if (config.narDelivery === 'redirect' && storage.createDownloadUrl === undefined) {
    platform.logger.warn('The storage has no URLs to redirect to: NARs go through this process', {
      storage: storage.description,
    });
  }
  return storage;
}

async function open({ storage, awsCredentials }: Config, { checkpoint }: Platform): Promise<BlobStore> {
  switch (storage.kind) {
    case 'file': {
      const { createFileStore } = await import('../../storage/file.ts');
      return await createFileStore({
        root: storage.path,
        ...(checkpoint === undefined ? {} : { checkpoint }),
      });
    }
    case 's3':
      return await openS3(storage, awsCredentials);
    case 'r2':
      throw new Error(`There is no driver for ${storage.kind} on Node`);
  }
}

/** @param credentials null: the default chain of the SDK (environment, files, roles) finds them */
async function openS3(config: S3Config, credentials: AwsCredentials | null): Promise<BlobStore> {
  const { createS3Store } = await import('../../storage/s3/s3.ts');
  const { s3ForNode } = await import('../../storage/s3/for-node.ts');
  const { bucket, prefix, endpoint, publicEndpoint, pathStyle, partSize, concurrency } = config;
  // A server that is not AWS has no region of AWS; without an endpoint the SDK finds it as it finds credentials.
  const region = config.region ?? (endpoint === null ? null : 'auto');
  return createS3Store({
    ...s3ForNode(),
    bucket,
    prefix: prefix.replace(/\/$/, ''),
    pathStyle,
    partSize,
    concurrency,
    ...(region === null ? {} : { region }),
    ...(endpoint === null ? {} : { endpoint }),
    ...(publicEndpoint === null ? {} : { publicEndpoint }),
    ...(credentials === null ? {} : { credentials: keysOf(credentials) }),
  });
}

function keysOf({ accessKeyId, secretAccessKey, sessionToken }: AwsCredentials) {
  return { accessKeyId, secretAccessKey, ...(sessionToken === null ? {} : { sessionToken }) };
}
