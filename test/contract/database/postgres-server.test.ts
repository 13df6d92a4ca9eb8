import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { migratePostgres } from '../../../src/database/postgres/migrate.ts';
import { createPostgresStore } from '../../../src/database/postgres/store.ts';
import { POSTGRES_PASSWORD, postgresMissing, startPostgres } from '../../support/postgres-server.ts';
import { migrationsFor } from '../../../src/database/read-migrations.ts';
import { hashOf, narOf, pathOf } from './records.ts';
import { testServerStore } from './server-store.contract.ts';
import { databaseOf } from './server-subject.ts';
import postgres from 'postgres';

const missing = postgresMissing();

describe.skipIf(missing !== null)(`PostgreSQL${missing === null ? '' : `: ${missing}`}`, async () => {
  if (missing !== null) return;
  const server = await startPostgres();
  afterAll(() => server.stop());
  testServerStore({
    ...server,
    name: 'PostgreSQL',
    password: POSTGRES_PASSWORD,
    migrations: migrationsFor('postgres'),
    migrate: migratePostgres,
    open: createPostgresStore,
    async endConnections(database) {
      await server.query(
        `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${database}' and usename is not null`,
      );
    },
    async countConnections(database) {
      const [row] = await server.query(
        `select count(*) as count from pg_stat_activity
          where datname = '${database}' and application_name = 'snowcap'`,
      );
      return Number(row?.['count']);
    },
    async holdNar(database, key) {
      const holder = postgres(server.urlOf(database), { max: 1 });
      await holder.unsafe('begin');
      await holder`update nars set compression = compression where key = ${key}`;
      return async () => {
        await holder.unsafe('rollback');
        await holder.end();
      };
    },
  });

  it('speaks TLS as the URL asks for it', async () => {
    const secured = await startPostgres({ tls: true });
    try {
      const url = await secured.createDatabase();
      await migratePostgres(`${url}?sslmode=require`, migrationsFor('postgres'));
      const store = await createPostgresStore({ url: `${url}?sslmode=require`, checkSchema: 'on-fault' });
      await store.ping();
      const [used] = await secured.query(
        `select ssl from pg_stat_ssl join pg_stat_activity using (pid) where application_name = 'snowcap'`,
      );
      expect(used).toEqual({ ssl: true });
      await store.close();
      const verified = createPostgresStore({
        url: `${url}?sslmode=verify-full`,
        checkSchema: migrationsFor('postgres'),
      });
      await expect(verified).rejects.toThrow(/self-signed certificate/);
    } finally {
      await secured.stop();
    }
  });

  describe('migrations of PostgreSQL', () => {
    const migrations = migrationsFor('postgres');
    const slow = {
      sql: ['create table one (x int)', 'select pg_sleep(20)'],
      hash: 'ab'.repeat(32),
      folderMillis: 9e14,
    };

    it('are applied all or none, whenever the connection is lost', async () => {
      const url = await server.createDatabase();
      const database = databaseOf(url);
      const migrating = migratePostgres(url, [...migrations, slow]).catch((error: unknown) => error);
      const sleeping = `select pid from pg_stat_activity where datname = '${database}' and wait_event = 'PgSleep'`;
      while ((await server.query(sleeping)).length === 0) await sleep(20);
      await server.query(`select pg_terminate_backend(pid) from (${sleeping}) as one`);
      expect(String(await migrating)).toMatch(/Cannot migrate the index.*CONNECTION_CLOSED|terminating/);
      const tables = await server.query(`select 1 from pg_tables where schemaname = 'public'`, database);
      expect(tables).toEqual([]);
      expect(await migratePostgres(url, migrations)).toEqual({ before: 0, pending: migrations.length });
    });

    it('may be made in any schema', async () => {
      const url = await server.createDatabase();
      await server.query('create schema own', databaseOf(url));
      const own = `${url}?search_path=own`;
      await migratePostgres(own, migrations);
      const store = await createPostgresStore({ url: own, checkSchema: migrations });
      await store.recordPath(pathOf(1, [2]), narOf(1));
      expect(await store.references(hashOf(1))).toEqual([hashOf(2)]);
      await store.close();
      expect(
        await server.query(`select 1 from pg_tables where schemaname = 'public'`, databaseOf(url)),
      ).toEqual([]);
    });

    it('refuse a database that cannot keep every text', async () => {
      await server.query(`create database ascii template template0 encoding 'SQL_ASCII' locale 'C'`);
      await expect(migratePostgres(server.urlOf('ascii'), migrations)).rejects.toThrow(/encoding UTF8/);
    });
  });
});
