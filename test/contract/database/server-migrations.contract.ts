import { tmpdir } from 'node:os';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Migration } from '../../../src/database/migrations.ts';
import { runCli } from '../../unit/cli/run-cli.ts';
import { hashOf, keyOf, record, storedNar } from './records.ts';
import { bringsUpkeep, expectUpgraded, oldNars } from './old-nars.ts';
import { databaseOf, freshServerStore, type ServerSubject } from './server-subject.ts';

function migration(hash: string, ...sql: string[]): Migration {
  return { sql, hash: hash.repeat(32), folderMillis: 9e14 + Number.parseInt(hash, 16) };
}

export function testServerMigrations(subject: ServerSubject): void {
  const { migrations } = subject;
  const next = migration(
    '1a',
    'alter table meta add column note varchar(9)',
    `insert into meta values ('a', 'b', 'c')`,
  );

  describe('migrations', () => {
    it('make the schema once, and change nothing the second time', async () => {
      const url = await subject.createDatabase();
      expect(await subject.migrate(url, migrations)).toEqual({ before: 0, pending: migrations.length });
      const store = await subject.open({ url, checkSchema: migrations });
      onTestFinished(() => store.close());
      const recorded = await record(store, 1, [2]);
      expect(await subject.migrate(url, migrations)).toEqual({ before: migrations.length, pending: 0 });
      expect(await store.getPath(hashOf(1))).toEqual(recorded);
      expect(await subject.query('select shard from size_counters', databaseOf(url))).toHaveLength(16);
    });

    it('may be applied by several at once', async () => {
      const url = await subject.createDatabase();
      const reports = await Promise.all([1, 2, 3, 4].map(() => subject.migrate(url, migrations)));
      expect(reports.filter(({ before }) => before === 0).length).toBeGreaterThan(0);
      expect(await subject.query('select hash from __drizzle_migrations', databaseOf(url))).toEqual(
        migrations.map(({ hash }) => ({ hash })),
      );
      expect(await subject.query('select shard from size_counters', databaseOf(url))).toHaveLength(16);
    });

    it('are applied by the command line, which needs no signing key and shows no password', async () => {
      const url = await subject.createDatabase();
      const run = (...words: string[]) =>
        runCli(['migrate', ...words], { directory: tmpdir(), environment: { SNOWCAP_DATABASE: url } });
      const missing = await run('--dry-run');
      expect(missing).toMatchObject({ code: 1, stdout: '' });
      expect(missing.stderr).toMatch(/^snowcap: The index lacks (\d+) of \1 migration/);
      const applied = await run();
      expect(applied).toMatchObject({ code: 0, stderr: '' });
      expect(applied.stdout).toMatch(/ applied\n$/);
      for (const words of [[], ['--dry-run']]) {
        const { code, stdout } = await run(...words);
        expect(code).toBe(0);
        expect(stdout).toMatch(/^The index is up to date: \d+ migrations?\n$/);
      }
      await subject.query('drop table __drizzle_migrations', databaseOf(url));
      const refused = await run();
      expect(refused.code).toBe(1);
      expect(refused.stderr).toContain('another program');
      expect(refused.stderr).not.toContain(subject.password);
    });

    it('are only counted in a dry run', async () => {
      const url = await subject.createDatabase();
      expect(await subject.migrate(url, migrations, { dryRun: true })).toEqual({
        before: 0,
        pending: migrations.length,
      });
      await expect(subject.query('select * from nars', databaseOf(url))).rejects.toThrow(/nars/);
    });

    it('go forward from an older schema, keeping what is there', async () => {
      const { store, url, database } = await freshServerStore(subject);
      await record(store, 1);
      await store.markPresent(keyOf(1), storedNar(1));
      await expect(subject.open({ url, checkSchema: [...migrations, next] })).rejects.toThrow(
        /older than this version.*run `snowcap migrate`/,
      );
      expect(await subject.migrate(url, [...migrations, next])).toEqual({
        before: migrations.length,
        pending: 1,
      });
      expect(await subject.query('select note from meta', database)).toEqual([{ note: 'c' }]);
      expect(await store.totals()).toEqual({ presentBytes: 501, presentNars: 1 });
    });

    it('give what upkeep needs to NARs that were known before it', async () => {
      const url = await subject.createDatabase();
      const before = migrations.slice(0, migrations.findIndex(bringsUpkeep));
      expect(before.length).toBeLessThan(migrations.length);
      await subject.migrate(url, before);
      for (const statement of oldNars(subject.name === 'PostgreSQL' ? '"' : '`'))
        await subject.query(statement, databaseOf(url));
      await subject.migrate(url, migrations);
      const store = await subject.open({ url, checkSchema: migrations });
      onTestFinished(() => store.close());
      await expectUpgraded(store);
    });

    it('of a newer version are refused, to open and to migrate', async () => {
      const { url } = await freshServerStore(subject);
      await subject.migrate(url, [...migrations, next]);
      await expect(subject.open({ url, checkSchema: migrations })).rejects.toThrow(/unknown to this version/);
      await expect(subject.migrate(url, migrations)).rejects.toThrow(/unknown to this version.*newer one/);
    });

    it('leave the database of another program alone', async () => {
      const url = await subject.createDatabase();
      await subject.query('create table customers (id int)', databaseOf(url));
      await expect(subject.migrate(url, migrations)).rejects.toThrow(/another program/);
      await expect(subject.query('select * from nars', databaseOf(url))).rejects.toThrow(/nars/);
    });
  });

  describe('a database without a schema', () => {
    it('is refused at the start, with what to do', async () => {
      const url = await subject.createDatabase();
      await expect(subject.open({ url, checkSchema: migrations })).rejects.toThrow(
        /Cannot open the index.*run `snowcap migrate`/,
      );
    });

    it('is noticed by the first statement where the start spends no query', async () => {
      const url = await subject.createDatabase();
      const store = await subject.open({ url, checkSchema: 'on-fault' });
      onTestFinished(() => store.close());
      await expect(store.getPath(hashOf(1))).rejects.toThrow(/getPath failed.*run `snowcap migrate`/);
      await expect(record(store, 1)).rejects.toThrow(/recordPath failed.*run `snowcap migrate`/);
      await expect(store.leases.take('a', 'b', 1)).rejects.toThrow(/take failed.*run `snowcap migrate`/);
    });
  });
}
