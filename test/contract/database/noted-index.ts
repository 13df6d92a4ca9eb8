import { DatabaseSync } from 'node:sqlite';
import { fileURLToPath } from 'node:url';
import type { IndexStore } from '../../../src/database/index-store.ts';
import { patienceOf } from '../../../src/database/sqlite/busy.ts';
import { databaseSyncExecutor } from '../../../src/database/sqlite/database-sync.ts';
import type { SqliteExecutor, SqliteStatement } from '../../../src/database/sqlite/executor.ts';
import { migrate, readMigrations } from '../../../src/database/sqlite/migrate.ts';
import { createMetadataStore } from '../../../src/database/sqlite/store.ts';

const FOLDER = fileURLToPath(new URL('../../../drizzle/sqlite', import.meta.url));

export interface Trip {
  readonly kind: 'statement' | 'batch';
  readonly statements: readonly SqliteStatement[];
}

export interface NotedIndex {
  readonly database: DatabaseSync;
  readonly store: IndexStore;
  /** All trips to the database so far. */
  readonly trips: readonly Trip[];
  /** Those of one operation. */
  tripsOf(operation: () => Promise<unknown>): Promise<readonly Trip[]>;
  /** What the database would do for a statement, step by step. */
  planOf(statement: SqliteStatement): readonly string[];
}

/** An empty index in memory that notes each trip to the database. */
export function notedIndex(): NotedIndex {
  const database = new DatabaseSync(':memory:');
  migrate(database, readMigrations(FOLDER));
  const trips: Trip[] = [];
  const executor = databaseSyncExecutor(database, patienceOf(0));
  const noted: SqliteExecutor = {
    execute(statement) {
      trips.push({ kind: 'statement', statements: [statement] });
      return executor.execute(statement);
    },
    batch(statements) {
      trips.push({ kind: 'batch', statements });
      return executor.batch(statements);
    },
    close: () => executor.close(),
  };
  return {
    database,
    store: createMetadataStore(noted, { description: 'test' }),
    trips,
    async tripsOf(operation) {
      const before = trips.length;
      await operation();
      return trips.slice(before);
    },
    planOf({ sql, params }) {
      const plan = database.prepare(`explain query plan ${sql}`).all(...params);
      return plan.map((row) => String(row['detail']));
    },
  };
}
