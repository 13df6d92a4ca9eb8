import { createConnection } from 'mysql2/promise';
import { afterAll, describe, expect, it } from 'vitest';
import { migrateMysql } from '../../../src/database/mysql/migrate.ts';
import { createMysqlStore } from '../../../src/database/mysql/store.ts';
import { MYSQL_PASSWORD, mysqlMissing, startMysql } from '../../support/mysql-server.ts';
import { migrationsFor } from '../../../src/database/read-migrations.ts';
import { hashOf, narOf, pathOf } from './records.ts';
import { testServerStore } from './server-store.contract.ts';

const missing = mysqlMissing();

describe.skipIf(missing !== null)(`MariaDB${missing === null ? '' : `: ${missing}`}`, async () => {
  if (missing !== null) return;
  const server = await startMysql();
  afterAll(() => server.stop());
  const connectionsTo = (database: string) =>
    server.query(
      `select id from information_schema.processlist where db = '${database}' and user = 'snowcap'`,
    );
  testServerStore({
    ...server,
    name: 'MariaDB',
    password: MYSQL_PASSWORD,
    migrations: migrationsFor('mysql'),
    migrate: migrateMysql,
    open: createMysqlStore,
    async endConnections(database) {
      for (const row of await connectionsTo(database)) await server.query(`kill ${Number(row['id'])}`);
    },
    countConnections: async (database) => (await connectionsTo(database)).length,
    async holdNar(database, key) {
      const holder = await createConnection(server.urlOf(database));
      await holder.beginTransaction();
      await holder.execute('select id from nars where `key` = ? for update', [key]);
      return async () => {
        await holder.rollback();
        await holder.end();
      };
    },
  });

  describe('migrations of MariaDB', () => {
    const migrations = migrationsFor('mysql');

    it('go on where a process died, after each statement, recorded or not', async () => {
      const [first] = migrations;
      const statements = first?.sql ?? [];
      expect(statements.length).toBeGreaterThan(10);
      // A process that died after `done` statements has recorded them all, or all but the last.
      for (const done of statements.keys()) {
        for (const recorded of new Set([done, Math.max(0, done - 1)])) {
          const url = await server.createDatabase();
          const connection = await createConnection(url);
          await connection.query(
            `create table __drizzle_migrations (id bigint auto_increment primary key, hash varchar(64) not null unique,
              created_at bigint not null, statements int not null default 0, finished tinyint not null default 0)`,
          );
          await connection.query(
            'insert into __drizzle_migrations (hash, created_at, statements) values (?, 1, ?)',
            [first?.hash, recorded],
          );
          for (const statement of statements.slice(0, done)) await connection.query(statement);
          await connection.end();
          await expect(createMysqlStore({ url, checkSchema: migrations })).rejects.toThrow(
            /run `snowcap migrate`/,
          );
          expect(await migrateMysql(url, migrations)).toEqual({ before: 0, pending: migrations.length });
          const store = await createMysqlStore({ url, checkSchema: migrations });
          await store.recordPath(pathOf(1, [2]), narOf(1));
          expect(await store.references(hashOf(1))).toEqual([hashOf(2)]);
          expect(await store.totals()).toEqual({ presentBytes: 0, presentNars: 0 });
          await store.close();
        }
      }
    });

    it('stop at a statement that fails for another reason, and say which', async () => {
      const url = await server.createDatabase();
      const bad = {
        sql: ['create table one (x int)', 'create table one (x int)'],
        hash: 'ab'.repeat(32),
        folderMillis: 9e14,
      };
      await expect(migrateMysql(url, [...migrations, bad])).rejects.toThrow(/Table 'one' already exists/);
    });
  });
});
