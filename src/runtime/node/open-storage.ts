import type { Config } from '../../config/config.ts';
import type { Platform } from '../../platform.ts';
import type { BlobStore } from '../../storage/blob-store.ts';
import { s3OptionsOf } from '../s3-options.ts';

/**
 * @param options.readOnly nothing is to be written, nor made, where it is
 * @throws StorageError where it cannot be opened, with what to do about it
 */
export async function openStorage(
  config: Config,
  platform: Platform,
  options: { readonly readOnly?: boolean } = {},
): Promise<BlobStore> {
  const storage = await open(config, platform, options.readOnly === true);
  if (config.narDelivery === 'redirect' && storage.createDownloadUrl === undefined) {
    platform.logger.warn('The storage has no URLs to redirect to: NARs go through this process', {
      storage: storage.description,
    });
  }
  return storage;
}

async function open(
  { storage, awsCredentials }: Config,
  { checkpoint }: Platform,
  readOnly: boolean,
): Promise<BlobStore> {
  switch (storage.kind) {
    case 'file': {
      const { createFileStore } = await import('../../storage/file.ts');
      return await createFileStore({
        root: storage.path,
        readOnly,
        ...(checkpoint === undefined ? {} : { checkpoint }),
      });
    }
    case 's3': {
      const { createS3Store } = await import('../../storage/s3/s3.ts');
      const { s3ForNode } = await import('../../storage/s3/for-node.ts');
      return createS3Store({ ...s3ForNode(), ...s3OptionsOf(storage, awsCredentials) });
    }
    case 'r2':
      throw new Error(`There is no driver for ${storage.kind} on Node`);
  }
}
