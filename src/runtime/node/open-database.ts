import type { Config } from '../../config/config.ts';
import type { LeaseStore } from '../../database/lease-store.ts';
import type { MetadataStore } from '../../database/metadata-store.ts';
import type { Platform } from '../../platform.ts';

/** @throws MetadataError where it cannot be opened, with what to do about it */
export async function openDatabase(
  config: Config,
  platform: Platform,
): Promise<MetadataStore & { readonly leases: LeaseStore }> {
  const { database } = config;
  const { checkpoint } = platform;
  switch (database.kind) {
    case 'sqlite': {
      const { createSqliteStore } = await import('../../database/sqlite/node.ts');
      return await createSqliteStore({ path: database.path, checkpoint });
    }
    case 'postgres':
    case 'mysql':
    case 'd1':
    case 'hyperdrive':
      throw new Error(`There is no driver for ${database.kind} on Node`);
  }
}
