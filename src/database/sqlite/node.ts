import { mkdirSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { IndexStore } from '../index-store.ts';
import { MetadataError } from '../metadata-store.ts';
import { migrationsFor } from '../read-migrations.ts';
import { BLOCKING_WAIT_MS, type Patience, patienceOf, patiently, SqliteCode, sqliteCodeOf } from './busy.ts';
import { databaseSyncExecutor } from './database-sync.ts';
import { migrate, pendingMigrations, UnsuitableDatabaseError } from './migrate.ts';
import { createMetadataStore } from './store.ts';

const IN_MEMORY = ':memory:';
const DEFAULT_BUSY_TIMEOUT_MS = 5000;

export interface SqliteStoreOptions {
  /** A file, made with its directories if it is not there, or `:memory:`. */
  readonly path: string;
  /**
   * How long an operation waits for another process that holds the database, in milliseconds.
   *
   * @default 5000
   */
  readonly busyTimeoutMs?: number | undefined;
  /** Called with `index.<operation>` before each operation that writes, as in `Platform`. */
  readonly checkpoint?: ((step: string) => void | Promise<void>) | undefined;
}

/**
 * Opens the index in a file of SQLite on a local disk, and brings its schema up to date. Any number of
 * processes may have it open.
 *
 * @throws MetadataError if there can be no index at that path; the message says what to do. A file that is not
 *   an index is left as it was
 */
export async function createSqliteStore(options: SqliteStoreOptions): Promise<IndexStore> {
  const { path, checkpoint } = options;
  if (path === '') throw new MetadataError('Cannot open the index: the path is empty');
  // Absolute: SQLite takes `file:…` for a URI with options.
  const place = path === IN_MEMORY ? path : resolve(path);
  const patience = patienceOf(options.busyTimeoutMs ?? DEFAULT_BUSY_TIMEOUT_MS);
  try {
    const database = await open(place, patience);
    const executor = databaseSyncExecutor(database, patience);
    return createMetadataStore(executor, { description: `sqlite:${place}`, checkpoint });
  } catch (cause) {
    throw new MetadataError(`Cannot open the index ${JSON.stringify(place)}: ${reasonOf(cause, patience)}`, {
      cause,
    });
  }
}

async function open(place: string, patience: Patience): Promise<DatabaseSync> {
  const migrations = migrationsFor('sqlite');
  if (place !== IN_MEMORY) prepareFile(place);
  const database = new DatabaseSync(place, { timeout: BLOCKING_WAIT_MS });
  try {
    // First only looked at: what belongs to somebody else is not changed, not even to WAL.
    await patiently(patience, () => pendingMigrations(database, migrations));
    await patiently(patience, () => {
      configure(database, place);
    });
    await patiently(patience, () => {
      migrate(database, migrations);
    });
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

function prepareFile(file: string): void {
  const directory = dirname(file);
  try {
    mkdirSync(directory, { recursive: true });
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown reason';
    const what = `the directory ${JSON.stringify(directory)} cannot be made (${code}): give another path`;
    throw new UnsuitableDatabaseError(what, { cause });
  }
  if (statSync(file, { throwIfNoEntry: false })?.isDirectory() === true) {
    throw new UnsuitableDatabaseError('it is a directory: name a file in it, as index.db');
  }
}

function configure(database: DatabaseSync, place: string): void {
  const mode = database.prepare('pragma journal_mode = wal').get()?.['journal_mode'];
  if (mode !== 'wal' && place !== IN_MEMORY) {
    throw new UnsuitableDatabaseError('its file system has no write-ahead log: give a path on a local disk');
  }
  database.exec(`
    -- In WAL mode this loses nothing when the process dies. When power fails, the last commits may be lost,
    -- but never one without the later ones: the index goes back to how it was a moment ago. It is a hint about
    -- storage: a body that it does not know is adopted or fetched again.
    pragma synchronous = normal;
    -- KiB of page cache.
    pragma cache_size = -16384;
    pragma temp_store = memory;
    -- Bytes that the log keeps on disk after a large batch.
    pragma journal_size_limit = 67108864;
  `);
}

function reasonOf(cause: unknown, patience: Patience): string {
  if (!(cause instanceof Error)) return 'unknown reason';
  switch (sqliteCodeOf(cause)) {
    case SqliteCode.notADatabase:
      return 'it is not an SQLite database: give another path, or move the file away';
    case SqliteCode.corrupt:
      return 'it is damaged: move it away, with -wal and -shm, to begin with an empty index, or bring back a copy';
    case SqliteCode.readOnly:
      return 'it cannot be written: let this user write the file and its directory';
    case SqliteCode.cannotOpen:
      return 'it cannot be opened: let this user read and write the file and its directory';
    case SqliteCode.busy:
    case SqliteCode.locked:
      return `another process has held it locked for ${patience.timeoutMs} ms: stop that one, or try again`;
    case SqliteCode.full:
      return 'the disk is full';
    default:
      return cause.message;
  }
}
