import { onTestFinished } from 'vitest';
import type { Migration, MigrationReport } from '../../../src/database/migrations.ts';
import type { IndexStore } from '../../../src/database/index-store.ts';
import type { ServerStoreOptions } from '../../../src/database/server-store.ts';

/** A place for an index and its leases on a server. */
export interface ServerPlace {
  open(): Promise<IndexStore>;
  run(statement: string): Promise<void>;
  remove(): Promise<void>;
}

/** What a store on a database server is opened with, in either dialect. */
export interface OpenOptions extends Pick<ServerStoreOptions, 'checkSchema' | 'onOutage'> {
  readonly url: string;
  readonly poolSize?: number;
  readonly connectTimeoutMs?: number;
  readonly statementTimeoutMs?: number;
}

/** A server that was started for the tests, as the suite sees it. */
export interface ServerSubject {
  readonly name: string;
  readonly port: number;
  readonly password: string;
  readonly migrations: readonly Migration[];
  createDatabase(): Promise<string>;
  query(text: string, database: string): Promise<readonly Readonly<Record<string, unknown>>[]>;
  restart(): Promise<void>;
  migrate(
    url: string,
    migrations: readonly Migration[],
    options?: { readonly dryRun?: boolean },
  ): Promise<MigrationReport>;
  open(options: OpenOptions): Promise<IndexStore>;
  /** Ends all connections to a database, as an administrator would. */
  endConnections(database: string): Promise<void>;
  /** How many connections to a database there are. */
  countConnections(database: string): Promise<number>;
  /** Holds the row of a NAR locked until it is told to let go. */
  holdNar(database: string, key: string): Promise<() => Promise<void>>;
}

export function databaseOf(url: string): string {
  return url.slice(url.lastIndexOf('/') + 1);
}

/** The URL of the same database on another port. */
export function atPort(url: string, port: number): string {
  return url.replace(/:\d+\//, `:${port}/`);
}

/** A migrated database for the running test, and a store on it. */
export async function freshServerStore(
  subject: ServerSubject,
  options: Partial<OpenOptions> & { readonly port?: number } = {},
): Promise<{ readonly store: IndexStore; readonly url: string; readonly database: string }> {
  const url = await subject.createDatabase();
  await subject.migrate(url, subject.migrations);
  const { port, ...rest } = options;
  const store = await subject.open({
    url: port === undefined ? url : atPort(url, port),
    checkSchema: subject.migrations,
    ...rest,
  });
  onTestFinished(() => store.close());
  return { store, url, database: databaseOf(url) };
}
