import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import postgres from 'postgres';
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

/** Debian keeps the server's own programs off PATH, in a folder for each major version. */
const DEBIAN = '/usr/lib/postgresql';

/** The folder of `initdb` and `postgres`; the newest version of Debian's, or null for those on PATH. */
function programFolder(): string | null {
  try {
    const [newest] = readdirSync(DEBIAN).sort((one, other) => Number(other) - Number(one));
    return newest === undefined ? null : join(DEBIAN, newest, 'bin');
  } catch {
    return null;
  }
}

/** Why PostgreSQL cannot be started here; null if it can. @throws Error where CI=true */
export function postgresMissing(): string | null {
  return programFolder() === null ? skipReason('initdb', 'postgres') : null;
}

export interface PostgresServer {
  readonly port: number;
  /** The superuser's URL of a database; made by `createDatabase`. */
  urlOf(database: string): string;
  /** Makes a database, empty or as a copy of another one that nobody uses meanwhile. @returns its URL */
  createDatabase(template?: string): Promise<string>;
  /** Runs statements as the superuser, in `postgres` or in another database. */
  query(text: string, database?: string): Promise<readonly Readonly<Record<string, unknown>>[]>;
  /** Ends it, with its connections, until `up`; by `SIGQUIT` as in a crash. */
  down(signal?: NodeJS.Signals): Promise<void>;
  /** Starts it again on the same port. */
  up(): Promise<void>;
  /** Ends it, with its connections, and starts it again on the same port; by `SIGQUIT` as after a crash. */
  restart(signal?: NodeJS.Signals): Promise<void>;
  stop(): Promise<void>;
}

export const POSTGRES_USER = 'snowcap';
export const POSTGRES_PASSWORD = 'secret-of-postgres';

/**
 * A cluster of PostgreSQL of its own, in a temporary directory and on a free port of 127.0.0.1 (some 2 s): one for
 * a file of tests, with a database for each test. Nothing is synced to disk: what was
 * committed outlives the death of its processes, not of the machine. Skip where `postgresMissing()` is not
 * null.
 *
 * @param options.tls with a certificate of its own for `localhost`
 *
 * ```ts
 * const server = await startPostgres();
 * afterAll(() => server.stop());
 * const url = await server.createDatabase();
 * ```
 */
export async function startPostgres(options: { readonly tls?: boolean } = {}): Promise<PostgresServer> {
  const account = await accountOf('postgres');
  const folder = programFolder();
  const program = (name: string) => (folder === null ? name : join(folder, name));
  const directory = await serverDirectory('postgres', account);
  const cluster = join(directory, 'cluster');
  const passwordFile = join(directory, 'password');
  await runAs(account, '/bin/sh', ['-c', `printf %s ${POSTGRES_PASSWORD} > ${passwordFile}`]);
  await runAs(
    account,
    program('initdb'),
    [
      ['-D', cluster, '-U', POSTGRES_USER, '--pwfile', passwordFile, '--auth', 'scram-sha-256'],
      // A collation that sorts unlike bytes, if there is one: the index must not depend on it.
      ['--encoding', 'UTF8', '--locale', 'C.UTF-8', '--no-sync'],
    ].flat(),
  );
  if (options.tls === true) {
    const key = ['-newkey', 'rsa:2048', '-nodes', '-keyout', join(cluster, 'server.key')];
    const certificate = ['-out', join(cluster, 'server.crt'), '-subj', '/CN=localhost'];
    await runAs(account, 'openssl', ['req', '-x509', '-days', '2', ...key, ...certificate]);
  }
  const port = await freePort();
  const urlOf = (database: string) =>
    `postgres://${POSTGRES_USER}:${POSTGRES_PASSWORD}@127.0.0.1:${port}/${database}`;
  const clients = new Map<string, postgres.Sql>();
  const clientOf = (database: string): postgres.Sql => {
    let client = clients.get(database);
    if (client === undefined) {
      client = postgres(urlOf(database), { max: 1, onnotice: () => undefined });
      clients.set(database, client);
    }
    return client;
  };
  const endClients = async () => {
    for (const client of clients.values()) await client.end({ timeout: 1 });
    clients.clear();
  };
  const start = (): Promise<ServerProcess> =>
    startServer(
      account,
      program('postgres'),
      [
        ['-D', cluster, '-p', String(port), '-k', directory, '-c', 'listen_addresses=127.0.0.1'],
        ['-c', `ssl=${options.tls === true ? 'on' : 'off'}`],
        ['-c', 'fsync=off', '-c', 'full_page_writes=off'],
        ['-c', 'max_connections=200', '-c', 'shared_buffers=64MB', '-c', 'autovacuum=off'],
      ].flat(),
      () => clientOf('postgres').unsafe('select 1'),
    );
  let server = await start();
  const down = async (signal: NodeJS.Signals = 'SIGINT'): Promise<void> => {
    await server.stop(signal);
    await endClients();
  };
  const up = async (): Promise<void> => {
    server = await start();
  };
  let made = 0;
  return {
    port,
    urlOf,
    async createDatabase(template) {
      const name = `test_${++made}`;
      await clientOf('postgres').unsafe(
        `create database ${name} ${template === undefined ? '' : `template ${template}`}`,
      );
      return urlOf(name);
    },
    query: (text, database = 'postgres') => clientOf(database).unsafe(text),
    down,
    up,
    async restart(signal) {
      await down(signal);
      await up();
    },
    async stop() {
      await endClients();
      // Fast shutdown: without waiting for clients.
      await server.stop('SIGINT');
      await removeDirectory(directory);
    },
  };
}
