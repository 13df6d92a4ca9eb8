import type { Config } from '../../config/config.ts';
import type { IndexStore } from '../../database/index-store.ts';
import type { Platform } from '../../platform.ts';

/**
 * A database of a server is asked for its schema once: `snowcap migrate` is what changes it, never a start.
 *
 * A server that does not answer now is no reason not to start (law 6).
 *
 * @throws MetadataError where it cannot be opened, or has the schema of another version, with what to do about it
 */
export async function openDatabase(config: Config, platform: Platform): Promise<IndexStore> {
  const { database, databasePoolSize: poolSize, databaseTimeoutMs: statementTimeoutMs } = config;
  const { checkpoint, logger } = platform;
  const onOutage = (error: Error): void => {
    logger.error('The index cannot be reached now: what is stored is served without it', { error });
  };
  switch (database.kind) {
    case 'sqlite': {
      const { createSqliteStore } = await import('../../database/sqlite/node.ts');
      return await createSqliteStore({ path: database.path, checkpoint });
    }
    case 'postgres': {
      const { createPostgresStore } = await import('../../database/postgres/store.ts');
      const { migrationsFor } = await import('../../database/read-migrations.ts');
      const checkSchema = migrationsFor('postgres');
      return await createPostgresStore({
        url: database.url,
        poolSize,
        statementTimeoutMs,
        checkSchema,
        checkpoint,
        onOutage,
      });
    }
    case 'mysql': {
      const { createMysqlStore } = await import('../../database/mysql/store.ts');
      const { migrationsFor } = await import('../../database/read-migrations.ts');
      const checkSchema = migrationsFor('mysql');
      return await createMysqlStore({
        url: database.url,
        poolSize,
        statementTimeoutMs,
        checkSchema,
        checkpoint,
        onOutage,
      });
    }
    case 'd1':
    case 'hyperdrive':
      throw new Error(`There is no driver for ${database.kind} on Node`);
  }
}
