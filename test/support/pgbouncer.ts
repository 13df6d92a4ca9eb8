import { join } from 'node:path';
import postgres from 'postgres';
import { POSTGRES_PASSWORD, POSTGRES_USER, type PostgresServer } from './postgres-server.ts';
import { skipReason } from './require.ts';
import {
  accountOf,
  freePort,
  removeDirectory,
  runAs,
  serverDirectory,
  startServer,
} from './server-process.ts';

/** Why PgBouncer cannot be started here; null if it can. @throws Error where CI=true */
export function pgbouncerMissing(): string | null {
  return skipReason('pgbouncer');
}

/**
 * PgBouncer in transaction mode before a server: each transaction may be on another of its two connections to the
 * server, and it refuses start-up parameters that it does not know.
 *
 * @returns the port, and how to end it
 */
export async function startPgbouncer(
  server: PostgresServer,
): Promise<{ readonly port: number; stop(): Promise<void> }> {
  const account = await accountOf('postgres');
  const directory = await serverDirectory('pgbouncer', account);
  const port = await freePort();
  const settings = `[databases]
* = host=127.0.0.1 port=${server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = ${join(directory, 'users')}
pool_mode = transaction
default_pool_size = 2
max_client_conn = 200
`;
  await runAs(account, '/bin/sh', [
    '-c',
    'printf %s "$1" > "$0/settings.ini"; printf \'"%s" "%s"\\n\' "$2" "$3" > "$0/users"',
    directory,
    settings,
    POSTGRES_USER,
    POSTGRES_PASSWORD,
  ]);
  const url = server.urlOf('postgres').replace(/:\d+\//, `:${port}/`);
  const { stop } = await startServer(account, 'pgbouncer', [join(directory, 'settings.ini')], async () => {
    const client = postgres(url, { max: 1, prepare: false, fetch_types: false });
    try {
      await client.unsafe('select 1');
    } finally {
      await client.end({ timeout: 1 });
    }
  });
  return {
    port,
    async stop() {
      await stop('SIGINT');
      await removeDirectory(directory);
    },
  };
}
