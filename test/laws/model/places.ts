import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createSqliteStore } from '../../../src/database/sqlite/node.ts';
import type { IndexStore } from '../../../src/database/index-store.ts';
import type { Platform } from '../../../src/platform.ts';
import type { BlobStore } from '../../../src/storage/blob-store.ts';
import { createFileStore } from '../../../src/storage/file.ts';
import { createS3Store } from '../../../src/storage/s3/s3.ts';
import { s3StoreOptions } from '../../support/s3-store.ts';
import type { S3Server } from '../../support/s3-server.ts';
import type { ServerPlace } from '../../contract/database/server-subject.ts';

/** Where one run keeps its bucket and its index, over all its processes. */
export interface Place {
  /** As a process that starts does. */
  open(
    checkpoint: Platform['checkpoint'],
  ): Promise<{ readonly storage: BlobStore; readonly index: IndexStore }>;
  /** Nobody has it open. */
  loseIndex(): Promise<void>;
  remove(): Promise<void>;
}

export function filePlace(directory: string): Place {
  const database = join(directory, 'index.db');
  return {
    async open(checkpoint) {
      const steps = checkpoint === undefined ? {} : { checkpoint };
      return {
        storage: await createFileStore({ root: join(directory, 'storage'), ...steps }),
        index: await createSqliteStore({ path: database, ...steps }),
      };
    },
    async loseIndex() {
      for (const suffix of ['', '-wal', '-shm']) await rm(`${database}${suffix}`, { force: true });
    },
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}

/** @param databases an empty one at each call */
export async function serverPlace(s3: S3Server, databases: () => Promise<ServerPlace>): Promise<Place> {
  const options = s3StoreOptions(s3);
  let database = await databases();
  return {
    open: async () => ({ storage: createS3Store(options), index: await database.open() }),
    async loseIndex() {
      await database.remove();
      database = await databases();
    },
    remove: () => database.remove(),
  };
}
