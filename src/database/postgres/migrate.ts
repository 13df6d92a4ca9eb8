import postgres from 'postgres';
import { parseDatabaseUrl } from '../database-url.ts';
import { MetadataError } from '../metadata-store.ts';
import {
  APPLIED,
  type Migration,
  type MigrationReport,
  pendingAfter,
  UnsuitableDatabaseError,
} from '../migrations.ts';
import { codeOf } from '../retry.ts';
import type { Row } from '../rows.ts';
import { connectPostgres, type PostgresClient } from './client.ts';

/** Any number, the same for all: who holds this lock migrates. */
const LOCK = '7305121984126210938';
/** A statement of a migration may rebuild a large table, whatever the role may take otherwise. In milliseconds. */
const MIGRATION_TIMEOUT_MS = 3_600_000;
const UNIQUE_VIOLATION = '23505';

/**
 * Brings the schema up to date: all that is missing, or nothing. Any number of these may run at once; the later ones
 * find nothing to do. A process that dies in the middle leaves the schema as it was.
 *
 * @param options.dryRun only looks
 * @throws MetadataError if the database cannot be reached, belongs to another program or to a newer version
 */
export async function migratePostgres(
  url: string,
  migrations: readonly Migration[],
  options: { readonly dryRun?: boolean } = {},
): Promise<MigrationReport> {
  const { description } = parseDatabaseUrl(url, ['postgres', 'postgresql']);
  const client = connectPostgres({ url, poolSize: 1, startupParameters: false });
  try {
    const { applied, pending } = await missing(client, migrations);
    if (options.dryRun !== true && pending.length > 0) await apply(client, pending, migrations);
    return { before: applied, pending: pending.length };
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : 'unknown reason';
    throw new MetadataError(`Cannot migrate the index ${description}: ${why}`, { cause });
  } finally {
    await client.end({ timeout: 5 });
  }
}

async function missing(client: PostgresClient, migrations: readonly Migration[]) {
  const [encoding] = await client.unsafe<Row[]>(`select current_setting('server_encoding') as name`);
  if (encoding?.['name'] !== 'UTF8') {
    throw new UnsuitableDatabaseError(
      `its encoding is ${JSON.stringify(encoding?.['name'])}: give a database that was made with encoding UTF8`,
    );
  }
  const tables = await client.unsafe<Row[]>(
    // Not the information schema, which shows only what this role may use.
    `select tablename as name from pg_catalog.pg_tables where schemaname = current_schema()`,
  );
  if (tables.length > 0 && !tables.some((table) => table['name'] === APPLIED)) {
    throw new UnsuitableDatabaseError(
      'it is the database of another program: give one of its own, or a schema',
    );
  }
  const applied =
    tables.length === 0 ? [] : await client.unsafe<Row[]>(`select hash from ${APPLIED} order by created_at`);
  const pending = pendingAfter(
    applied.map((row) => row['hash']),
    migrations,
    'another database',
  );
  return { applied: applied.length, pending };
}

/**
 * One text of many statements is one message to the server, so that nothing of it can end up on another connection.
 * What another process has applied since we looked makes the first insertion fail, and all with it.
 */
async function apply(
  client: PostgresClient,
  pending: readonly Migration[],
  all: readonly Migration[],
): Promise<void> {
  const names = pending.map(
    ({ hash, folderMillis }) => `('${hash.replaceAll(/[^0-9a-f]/g, '')}', ${folderMillis})`,
  );
  const statements = [
    'begin',
    `set local statement_timeout = ${MIGRATION_TIMEOUT_MS}`,
    `select pg_advisory_xact_lock(${LOCK})`,
    `create table if not exists ${APPLIED}
      (id bigint primary key generated always as identity, hash text not null unique, created_at bigint not null)`,
    `insert into ${APPLIED} (hash, created_at) values ${names.join(', ')}`,
    ...pending.flatMap((migration) => migration.sql),
    'commit',
  ];
  try {
    await client.unsafe(statements.join(';\n')).simple();
  } catch (error) {
    if (!(error instanceof postgres.PostgresError) || codeOf(error) !== UNIQUE_VIOLATION) throw error;
    await client.unsafe('rollback').simple();
    const { pending: rest } = await missing(client, all);
    // Otherwise it was a statement of the migration itself.
    if (rest.length === pending.length) throw error;
    if (rest.length > 0) await apply(client, rest, all);
  }
}
