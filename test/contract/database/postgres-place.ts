import { migratePostgres } from '../../../src/database/postgres/migrate.ts';
import { createPostgresStore } from '../../../src/database/postgres/store.ts';
import { migrationsFor } from '../../../src/database/read-migrations.ts';
import type { PostgresServer } from '../../support/postgres-server.ts';
import { databaseOf, type ServerPlace } from './server-subject.ts';

const MIGRATIONS = migrationsFor('postgres');

const EMPTY = `
  truncate bans, leases, meta, nars, paths, pinned_paths, pins, reference_edges, store_hashes restart identity;
  update size_counters set present_bytes = 0, present_nars = 0`;

/**
 * Empty indexes in databases of one server. A database is emptied and used again when its index is removed, which is
 * quicker than a new one.
 *
 * @param through the URL to use instead of the server's own, as of a pooler
 */
export function postgresPlaces(
  server: PostgresServer,
  through: (url: string) => string = (url) => url,
): () => Promise<ServerPlace> {
  const free: string[] = [];
  return async () => {
    let url = free.pop();
    if (url === undefined) {
      url = await server.createDatabase();
      await migratePostgres(through(url), MIGRATIONS);
    }
    const own = url;
    return {
      open: () => createPostgresStore({ url: through(own), poolSize: 4, checkSchema: MIGRATIONS }),
      async run(statement) {
        await server.query(statement, databaseOf(own));
      },
      async remove() {
        await server.query(EMPTY, databaseOf(own));
        free.push(own);
      },
    };
  };
}
