import type { Config } from '../../config/config.ts';
import type { IndexStore } from '../../database/index-store.ts';
import { createD1Store } from '../../database/sqlite/d1.ts';
import { bindingOf, isD1Database, isHyperdrive, type WorkerEnv } from './bindings.ts';

/** The index, and the leases beside it. */

/** A request may wait for six connections at once, and most go to upstreams and the storage. */
const MOST_CONNECTIONS = 2;

/** @throws Error for a kind that is not there on Workers, which the configuration refuses before */
export async function openDatabase(config: Config, env: WorkerEnv): Promise<IndexStore> {
  const { database } = config;
  switch (database.kind) {
    case 'd1': {
      const binding = bindingOf(env, database.binding, isD1Database);
      return createD1Store({ database: binding, description: `d1:${database.binding}` });
    }
    case 'hyperdrive':
      return await openPostgres(config, bindingOf(env, database.binding, isHyperdrive).connectionString);
    case 'postgres':
      return await openPostgres(config, database.url);
    case 'sqlite':
    case 'mysql':
      throw new Error(`There is no ${database.kind} on Workers`);
  }
}

/** A client for one request, which connects at the first query: connections of one request must not be another's. */
async function openPostgres(config: Config, url: string): Promise<IndexStore> {
  const { createPostgresStore } = await import('../../database/postgres/store.ts');
  return await createPostgresStore({
    url,
    poolSize: Math.min(config.databasePoolSize, MOST_CONNECTIONS),
    statementTimeoutMs: config.databaseTimeoutMs,
    // No query for it on each request: `snowcap migrate` comes before an update.
    checkSchema: 'on-fault',
  });
}
