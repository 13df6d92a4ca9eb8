import type { DatabaseSync } from 'node:sqlite';
import type { MigrationMeta } from 'drizzle-orm/migrator';
import { APPLIED, pendingAfter, UnsuitableDatabaseError } from '../migrations.ts';

export { UnsuitableDatabaseError } from '../migrations.ts';
export { readMigrations } from '../read-migrations.ts';

/**
 * The migrations that the database lacks. Writes nothing.
 *
 * @throws UnsuitableDatabaseError if it belongs to another program or to a newer version
 */
export function pendingMigrations(
  database: DatabaseSync,
  migrations: readonly MigrationMeta[],
): readonly MigrationMeta[] {
  const tables = database.prepare(`select name from sqlite_master where type = 'table'`).all();
  if (tables.length === 0) return migrations;
  if (!tables.some((table) => table['name'] === APPLIED)) {
    throw new UnsuitableDatabaseError('it is the database of another program: give another path');
  }
  const applied = database.prepare(`select hash from ${APPLIED} order by created_at`).all();
  return pendingAfter(
    applied.map(({ hash }) => hash),
    migrations,
    'another path',
  );
}

/**
 * Brings the schema up to date in one transaction: all of the pending migrations, or none. Several
 * processes may do so at once; who comes second finds nothing to do. Also proves that the database can be
 * written, which opening it does not.
 *
 * drizzle's own migrator reads what was applied outside of any transaction, so that two processes
 * that start together both apply the first migration.
 *
 * @throws UnsuitableDatabaseError as `pendingMigrations`; node:sqlite's errors
 */
export function migrate(database: DatabaseSync, migrations: readonly MigrationMeta[]): void {
  // Cannot be switched within a transaction, and a migration that rebuilds a table drops it for a moment.
  database.exec('pragma foreign_keys = off');
  database.exec('begin immediate');
  try {
    const pending = pendingMigrations(database, migrations);
    if (pending.length > 0) apply(database, pending);
    // Opening a file that is read-only succeeds; the first write tells.
    database.exec('update meta set value = value');
    database.exec('commit');
  } catch (error) {
    if (database.isTransaction) database.exec('rollback');
    throw error;
  }
  database.exec('pragma foreign_keys = on');
}

function apply(database: DatabaseSync, pending: readonly MigrationMeta[]): void {
  database.exec(
    `create table if not exists ${APPLIED} (id integer primary key, hash text not null, created_at numeric)`,
  );
  const record = database.prepare(`insert into ${APPLIED} (hash, created_at) values (?, ?)`);
  for (const { sql, hash, folderMillis } of pending) {
    for (const statement of sql) database.exec(statement);
    record.run(hash, folderMillis);
  }
  // Reads every table: only after a change.
  const broken = database.prepare('pragma foreign_key_check').all();
  if (broken.length > 0) {
    throw new UnsuitableDatabaseError(
      `its tables would refer to ${broken.length} rows that are not there: give another path`,
    );
  }
}
