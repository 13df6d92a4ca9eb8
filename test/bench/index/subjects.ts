import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import postgres from 'postgres';
import type { Statement } from '../../../src/database/compile.ts';
import type { IndexStore } from '../../../src/database/index-store.ts';
import { migratePostgres } from '../../../src/database/postgres/migrate.ts';
import { reads as postgresReads } from '../../../src/database/postgres/statements.ts';
import { createPostgresStore } from '../../../src/database/postgres/store.ts';
import { reads as postgresUpkeepReads } from '../../../src/database/postgres/upkeep.ts';
import type { IndexReads } from '../../../src/database/reads.ts';
import { migrationsFor } from '../../../src/database/read-migrations.ts';
import { createSqliteStore } from '../../../src/database/sqlite/node.ts';
import { reads as sqliteReads } from '../../../src/database/sqlite/reads.ts';
import { reads as sqliteUpkeepReads } from '../../../src/database/sqlite/upkeep.ts';
import type { UpkeepReads } from '../../../src/database/upkeep-reads.ts';
import { postgresMissing, startPostgres } from '../../support/postgres-server.ts';
import { populate, POSTGRES } from './population.ts';

/** An index of many paths in one database. */
export interface IndexUnderTest {
  readonly store: IndexStore;
  readonly reads: Pick<IndexReads, 'selectPath' | 'selectClosure' | 'selectTotals'> &
    Pick<UpkeepReads, 'selectEvictable'>;
  /** How the database goes about a statement, a line for each step. */
  plan(statement: Statement): Promise<readonly string[]>;
  close(): Promise<void>;
}

export interface IndexSubject {
  readonly name: string;
  /** Milliseconds that a hit may take. */
  readonly hitLimitMs: number;
  /** Why it cannot be had here; null where it can. */
  readonly missing: string | null;
  open(paths: number): Promise<IndexUnderTest>;
}

const BUILD = fileURLToPath(new URL('../index-build-process.ts', import.meta.url));

export const SUBJECTS: readonly IndexSubject[] = [
  { name: 'SQLite', hitLimitMs: 0.2, missing: null, open: openSqlite },
  { name: 'PostgreSQL', hitLimitMs: 1, missing: postgresMissing(), open: openPostgres },
];

async function openSqlite(paths: number): Promise<IndexUnderTest> {
  const directory = await mkdtemp(join(tmpdir(), 'snowcap-bench-index-'));
  const path = join(directory, 'index.db');
  await (await createSqliteStore({ path })).close();
  await promisify(execFile)(process.execPath, [BUILD, path, String(paths)]);
  const database = new DatabaseSync(path);
  const store = await createSqliteStore({ path });
  return {
    store,
    reads: { ...sqliteReads, selectEvictable: sqliteUpkeepReads.selectEvictable },
    plan({ sql, params }) {
      const steps = database.prepare(`explain query plan ${sql}`).all(...params);
      return Promise.resolve(steps.map(({ detail }) => String(detail)));
    },
    async close() {
      await store.close();
      database.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function openPostgres(paths: number): Promise<IndexUnderTest> {
  const server = await startPostgres();
  const url = await server.createDatabase();
  const migrations = migrationsFor('postgres');
  await migratePostgres(url, migrations);
  const client = postgres(url, { max: 1 });
  for (const text of populate(POSTGRES, paths)) await client.unsafe(text);
  const store = await createPostgresStore({ url, checkSchema: migrations });
  return {
    store,
    reads: { ...postgresReads, selectEvictable: postgresUpkeepReads.selectEvictable },
    async plan({ sql, params }) {
      const steps = await client.unsafe(`explain ${sql}`, [...params]);
      return steps.map((step) => String(step['QUERY PLAN']));
    },
    async close() {
      await store.close();
      await client.end();
      await server.stop();
    },
  };
}
