import { migrateMysql } from '../../../src/database/mysql/migrate.ts';
import { createMysqlStore } from '../../../src/database/mysql/store.ts';
import { migrationsFor } from '../../../src/database/read-migrations.ts';
import type { MysqlServer } from '../../support/mysql-server.ts';
import { databaseOf, type ServerPlace } from './server-subject.ts';

const MIGRATIONS = migrationsFor('mysql');

const EMPTY = [
  ...[
    'pinned_paths',
    'pins',
    'bans',
    'reference_edges',
    'paths',
    'nars',
    'store_hashes',
    'leases',
    'meta',
  ].map((table) => `delete from ${table}`),
  'update size_counters set present_bytes = 0, present_nars = 0',
];

/** As `postgresPlaces`. */
export function mysqlPlaces(server: MysqlServer): () => Promise<ServerPlace> {
  const free: string[] = [];
  return async () => {
    let url = free.pop();
    if (url === undefined) {
      url = await server.createDatabase();
      await migrateMysql(url, MIGRATIONS);
    }
    const own = url;
    return {
      open: () => createMysqlStore({ url: own, poolSize: 4, checkSchema: MIGRATIONS }),
      async run(statement) {
        await server.query(statement, databaseOf(own));
      },
      async remove() {
        for (const text of EMPTY) await server.query(text, databaseOf(own));
        free.push(own);
      },
    };
  };
}
