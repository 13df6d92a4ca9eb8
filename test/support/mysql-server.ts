import { join } from 'node:path';
import { createConnection, type RowDataPacket } from 'mysql2/promise';
import { skipReason } from './require.ts';
import {
  accountOf,
  freePort,
  removeDirectory,
  runAs,
  serverDirectory,
  startServer,
  type ServerProcess,
} from './server-process.ts';

// Debian keeps the server where only root looks.
process.env['PATH'] = `${process.env['PATH'] ?? ''}:/usr/sbin`;

/** Why MariaDB cannot be started here; null if it can. @throws Error where CI=true */
export function mysqlMissing(): string | null {
  return skipReason('mariadb-install-db', 'mariadbd');
}

export interface MysqlServer {
  readonly port: number;
  /** The URL of a database; made by `createDatabase`. */
  urlOf(database: string): string;
  /** Makes an empty database. @returns its URL */
  createDatabase(): Promise<string>;
  /** Runs one statement, in `mysql` or in another database. */
  query(text: string, database?: string): Promise<readonly Readonly<Record<string, unknown>>[]>;
  /** Ends it as a crash does, until `up`. */
  down(signal?: NodeJS.Signals): Promise<void>;
  /** Starts it again on the same port. */
  up(): Promise<void>;
  /** Ends it as a crash does, and starts it again on the same port. */
  restart(signal?: NodeJS.Signals): Promise<void>;
  stop(): Promise<void>;
}

const USER = 'snowcap';
export const MYSQL_PASSWORD = 'secret-of-mysql';

/**
 * A MariaDB of its own, which stands for MySQL too, in a temporary directory and on a free port of 127.0.0.1 (some
 * 3 s): one for a file of tests, with a database for each test. Nothing is synced to disk: what was
 * committed outlives the death of the process. The defaults that an index
 * must not depend on are set against it. Skip where `mysqlMissing()` is not null.
 *
 * ```ts
 * const server = await startMysql();
 * afterAll(() => server.stop());
 * const url = await server.createDatabase();
 * ```
 */
export async function startMysql(): Promise<MysqlServer> {
  const account = await accountOf('mysql');
  const directory = await serverDirectory('mysql', account);
  const data = join(directory, 'data');
  await runAs(
    account,
    'mariadb-install-db',
    [
      ['--no-defaults', `--datadir=${data}`, '--auth-root-authentication-method=normal', '--skip-test-db'],
    ].flat(),
  );
  const port = await freePort();
  const socketPath = join(directory, 'socket');
  const urlOf = (database: string) => `mysql://${USER}:${MYSQL_PASSWORD}@127.0.0.1:${port}/${database}`;
  const query = async (text: string, database = 'mysql') => {
    const connection = await createConnection({ socketPath, user: 'root', database });
    try {
      await connection.query('set autocommit = 1');
      const [rows] = await connection.query<RowDataPacket[]>(text);
      return rows;
    } finally {
      connection.destroy();
    }
  };
  const start = (): Promise<ServerProcess> =>
    startServer(
      account,
      'mariadbd',
      [
        ['--no-defaults', `--datadir=${data}`, `--socket=${socketPath}`, `--port=${port}`],
        ['--bind-address=127.0.0.1', `--pid-file=${join(directory, 'pid')}`, '--skip-name-resolve'],
        ['--innodb-flush-log-at-trx-commit=2', '--innodb-flush-method=nosync', '--max-connections=200'],
        ['--innodb-buffer-pool-size=64M', '--innodb-log-file-size=32M', '--sync-binlog=0'],
        // What a careless server may have: texts that are equal but for case or accents, values cut to fit, and
        // statements that wait for a commit.
        [
          '--character-set-server=latin1',
          '--collation-server=latin1_swedish_ci',
          '--sql-mode=',
          '--autocommit=0',
        ],
      ].flat(),
      () => query('select 1'),
    );
  let server = await start();
  await query(`create user ${USER} identified by '${MYSQL_PASSWORD}'`);
  await query(`grant all on *.* to ${USER}`);
  const down = (signal: NodeJS.Signals = 'SIGKILL') => server.stop(signal);
  const up = async (): Promise<void> => {
    server = await start();
  };
  let made = 0;
  return {
    port,
    urlOf,
    async createDatabase() {
      const name = `test_${++made}`;
      await query(`create database ${name}`);
      return urlOf(name);
    },
    query,
    down,
    up,
    async restart(signal) {
      await down(signal);
      await up();
    },
    async stop() {
      await server.stop('SIGKILL');
      await removeDirectory(directory);
    },
  };
}
