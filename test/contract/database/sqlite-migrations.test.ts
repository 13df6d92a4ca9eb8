import { execFile } from 'node:child_process';
import { cp, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it, onTestFinished } from 'vitest';
import { migrate, pendingMigrations, readMigrations } from '../../../src/database/sqlite/migrate.ts';
import { createSqliteStore } from '../../../src/database/sqlite/node.ts';
import { bringsUpkeep, expectUpgraded, oldNars } from './old-nars.ts';
import { hashOf, record } from './records.ts';

const REPOSITORY = fileURLToPath(new URL('../../../', import.meta.url));
const FOLDER = join(REPOSITORY, 'drizzle/sqlite');
const run = promisify(execFile);

async function freshDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'snowcap-index-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** A migration as drizzle's reader gives it. */
function migration(when: number, ...sql: string[]): ReturnType<typeof readMigrations>[number] {
  return { sql, hash: `hash-${when}`, folderMillis: when, bps: true };
}

describe('The migrations for SQLite', () => {
  it('are up to date with the schema', async () => {
    const directory = await freshDirectory();
    await cp(FOLDER, join(directory, 'sqlite'), { recursive: true });
    const before = await readdir(join(directory, 'sqlite'));
    const args = ['--dialect=sqlite', '--schema=./src/database/sqlite/schema.ts'];
    // Relative, as drizzle-kit puts `./` before whatever it is given.
    const { stdout } = await run(
      process.execPath,
      [
        'node_modules/drizzle-kit/bin.cjs',
        'generate',
        ...args,
        `--out=${relative(REPOSITORY, join(directory, 'sqlite'))}`,
      ],
      { cwd: REPOSITORY },
    );
    expect(stdout).toContain('No schema changes');
    expect(await readdir(join(directory, 'sqlite'))).toEqual(before);
  });

  it('make edges without row ids, and the counters with their rows', async () => {
    const database = new DatabaseSync(':memory:');
    migrate(database, readMigrations(FOLDER));
    const edges = database.prepare(`select sql from sqlite_master where name = 'reference_edges'`).get();
    expect(edges?.['sql']).toMatch(/WITHOUT ROWID$/);
    expect(database.prepare('select shard from size_counters').all()).toHaveLength(16);
    expect(database.prepare('pragma foreign_keys').get()).toEqual({ foreign_keys: 1 });
    database.close();
  });

  it('are applied once, and change nothing the second time', async () => {
    const path = join(await freshDirectory(), 'index.db');
    const first = await createSqliteStore({ path });
    await record(first, 1);
    await first.close();
    const second = await createSqliteStore({ path });
    onTestFinished(() => second.close());
    expect(await second.getPath(hashOf(1))).not.toBeNull();
    const database = new DatabaseSync(path);
    expect(database.prepare('select count(*) as applied from __drizzle_migrations').get()).toEqual({
      applied: readMigrations(FOLDER).length,
    });
    database.close();
  });

  it('go forward from an older schema, keeping what is there', () => {
    const database = new DatabaseSync(':memory:');
    const known = readMigrations(FOLDER);
    migrate(database, known);
    database.exec(`insert into meta values ('kept', 'yes')`);
    const next = migration(9e14, 'alter table meta add column note text', `update meta set note = 'new'`);
    expect(pendingMigrations(database, [...known, next])).toEqual([next]);
    migrate(database, [...known, next]);
    expect(database.prepare('select * from meta').all()).toEqual([
      { key: 'kept', value: 'yes', note: 'new' },
    ]);
    expect(pendingMigrations(database, [...known, next])).toEqual([]);
    expect(() => pendingMigrations(database, known)).toThrow('unknown to this version');
    database.close();
  });

  it('give what upkeep needs to NARs that were known before it', async () => {
    const path = join(await freshDirectory(), 'index.db');
    const known = readMigrations(FOLDER);
    const before = known.slice(0, known.findIndex(bringsUpkeep));
    expect(before.length).toBeLessThan(known.length);
    const database = new DatabaseSync(path);
    migrate(database, before);
    for (const statement of oldNars('"')) database.exec(statement);
    database.close();
    const store = await createSqliteStore({ path });
    onTestFinished(() => store.close());
    await expectUpgraded(store);
  });

  it('are applied all or none', () => {
    const database = new DatabaseSync(':memory:');
    const known = readMigrations(FOLDER);
    migrate(database, known);
    const good = migration(9e14, 'create table one (x)');
    const bad = migration(9.1e14, 'create table two (x)', 'create table two (x)');
    expect(() => {
      migrate(database, [...known, good, bad]);
    }).toThrow('already exists');
    const tables = database.prepare(`select name from sqlite_master where name in ('one', 'two')`).all();
    expect(tables).toEqual([]);
    expect(pendingMigrations(database, [...known, good])).toEqual([good]);
    database.close();
  });

  it('may rebuild a table that others refer to, but leave no row referring to nothing', () => {
    const database = new DatabaseSync(':memory:');
    const known = readMigrations(FOLDER);
    migrate(database, known);
    database.exec(
      `insert into store_hashes values (1, 'a'), (2, 'b'); insert into reference_edges values (1, 2)`,
    );
    const rebuilt = migration(
      9e14,
      'create table rebuilt as select * from store_hashes',
      'drop table store_hashes',
      'create table store_hashes (id integer primary key, hash text not null)',
      'insert into store_hashes select * from rebuilt',
      'drop table rebuilt',
    );
    migrate(database, [...known, rebuilt]);
    expect(database.prepare('select count(*) as edges from reference_edges').get()).toEqual({ edges: 1 });
    expect(() => {
      migrate(database, [...known, rebuilt, migration(9.1e14, 'delete from store_hashes')]);
    }).toThrow('refer to');
    expect(database.prepare('select count(*) as hashes from store_hashes').get()).toEqual({ hashes: 2 });
    database.close();
  });
});
