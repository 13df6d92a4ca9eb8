import type { Config } from '../../config/config.ts';
import type { Platform } from '../../platform.ts';
import type { BlobStore } from '../../storage/blob-store.ts';

/** @throws StorageError where it cannot be opened, with what to do about it */
export async function openStorage(config: Config, platform: Platform): Promise<BlobStore> {
  const { storage } = config;
  const { checkpoint } = platform;
  switch (storage.kind) {
    case 'file': {
      const { createFileStore } = await import('../../storage/file.ts');
      return await createFileStore({
        root: storage.path,
        ...(checkpoint === undefined ? {} : { checkpoint }),
      });
    }
    case 's3':
    case 'r2':
      throw new Error(`There is no driver for ${storage.kind} on Node`);
  }
}
