import { type Connection, createConnection, type RowDataPacket } from 'mysql2/promise';
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
import { mysqlConnectionOf } from './connection.ts';

/** How long to wait for another process that migrates, in seconds. */
const LOCK_SECONDS = 3600;

/** What a statement says that was already done. */
const DONE_ALREADY = new Set([
  'ER_TABLE_EXISTS_ERROR',
  'ER_DUP_FIELDNAME',
  'ER_DUP_KEYNAME',
  'ER_FK_DUP_NAME',
  'ER_DUP_CONSTRAINT_NAME',
  'ER_CANT_DROP_FIELD_OR_KEY',
  'ER_BAD_TABLE_ERROR',
]);
/** How MariaDB says that a foreign key is there already: error 121 of InnoDB, "Duplicate key on write or update". */
const FOREIGN_KEY_EXISTS = /\(errno: 121\b/;

/**
 * Brings the schema up to date. The servers end a transaction with each change of a table, so there is no all or
 * nothing: what was done is recorded after each statement, and a process that dies in the middle is followed by the
 * next one where it stopped. The one statement that may have been done without being recorded is done again, and
 * may then say that it was done. Any number of these may run at once; the later ones find nothing to do.
 *
 * @param options.dryRun only looks
 * @throws MetadataError if the database cannot be reached, belongs to another program or to a newer version
 */
export async function migrateMysql(
  url: string,
  migrations: readonly Migration[],
  options: { readonly dryRun?: boolean } = {},
): Promise<MigrationReport> {
  const { description, options: connectionOptions } = mysqlConnectionOf(url);
  let connection: Connection | null = null;
  try {
    const opened = await createConnection(connectionOptions);
    connection = opened;
    // Also told to the statement that meets it; without a listener it would end the process.
    opened.on('error', () => undefined);
    if (options.dryRun === true) return reportOf(await missing(opened, migrations));
    return await locked(opened, () => bringUp(opened, migrations));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : 'unknown reason';
    throw new MetadataError(`Cannot migrate the index ${description}: ${why}`, { cause });
  } finally {
    connection?.destroy();
  }
}

interface Missing {
  readonly before: number;
  readonly pending: readonly Migration[];
  /** How many statements of the first pending migration were done already. */
  readonly begun: number;
}

function reportOf({ before, pending }: Missing): MigrationReport {
  return { before, pending: pending.length };
}

async function missing(connection: Connection, migrations: readonly Migration[]): Promise<Missing> {
  const tables = await rowsOf(
    connection,
    'select table_name as name from information_schema.tables where table_schema = database()',
  );
  if (tables.length === 0) return { before: 0, pending: migrations, begun: 0 };
  if (!tables.some((table) => table['name'] === APPLIED)) {
    throw new UnsuitableDatabaseError('it is the database of another program: give one of its own');
  }
  const rows = await rowsOf(connection, `select * from ${APPLIED} order by created_at`);
  const known = pendingAfter(
    rows.map((row) => row['hash']),
    migrations,
    'another database',
  );
  const last = rows.at(-1);
  if (last === undefined || last['finished'] === 1) return { before: rows.length, pending: known, begun: 0 };
  const before = rows.length - 1;
  return { before, pending: migrations.slice(before), begun: Number(last['statements']) };
}

async function locked<Result>(connection: Connection, work: () => Promise<Result>): Promise<Result> {
  // Names of locks are for the whole server; 64 characters at most.
  const name = `concat('snowcap-', sha1(database()))`;
  const [lock] = await rowsOf(connection, `select get_lock(${name}, ${LOCK_SECONDS}) as got`);
  if (lock?.['got'] !== 1) throw new Error('another process has been migrating it for an hour');
  try {
    return await work();
  } finally {
    await connection.query(`select release_lock(${name})`);
  }
}

async function bringUp(connection: Connection, migrations: readonly Migration[]): Promise<MigrationReport> {
  await connection.query(
    `set session autocommit = 1, sql_mode = 'STRICT_ALL_TABLES', default_storage_engine = InnoDB`,
  );
  const state = await missing(connection, migrations);
  if (state.pending.length > 0) {
    await connection.query(
      `create table if not exists ${APPLIED} (
        id bigint auto_increment primary key,
        hash varchar(64) not null unique,
        created_at bigint not null,
        statements int not null default 0,
        finished tinyint not null default 0
      )`,
    );
  }
  let { begun } = state;
  for (const migration of state.pending) {
    await apply(connection, migration, begun);
    begun = 0;
  }
  return reportOf(state);
}

async function apply(connection: Connection, migration: Migration, begun: number): Promise<void> {
  const { hash, folderMillis, sql } = migration;
  await connection.query(
    `insert into ${APPLIED} (hash, created_at) values (?, ?) on duplicate key update id = id`,
    [hash, folderMillis],
  );
  for (const [at, statement] of sql.entries()) {
    if (at < begun) continue;
    try {
      await connection.query(statement);
    } catch (error) {
      if (at !== begun || !wasDone(error)) throw error;
    }
    await connection.query(`update ${APPLIED} set statements = ? where hash = ?`, [at + 1, hash]);
  }
  await connection.query(`update ${APPLIED} set finished = 1 where hash = ?`, [hash]);
}

function wasDone(error: unknown): boolean {
  if (DONE_ALREADY.has(codeOf(error) ?? '')) return true;
  return error instanceof Error && FOREIGN_KEY_EXISTS.test(error.message);
}

async function rowsOf(connection: Connection, text: string): Promise<readonly Row[]> {
  const [rows] = await connection.query<RowDataPacket[]>(text);
  return rows;
}
