import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { MetadataError } from '../metadata-store.ts';
import type { MigrationReport } from '../migrations.ts';
import { migrationsFor } from '../read-migrations.ts';
import { pendingMigrations } from './migrate.ts';
import { createSqliteStore } from './node.ts';

/**
 * Brings the file of an index up to date, as opening it does.
 *
 * @param options.dryRun only looks; a file that is not there is not made
 * @throws MetadataError as `createSqliteStore`
 */
export async function migrateSqlite(
  path: string,
  options: { readonly dryRun?: boolean } = {},
): Promise<MigrationReport> {
  const report = look(resolve(path));
  if (options.dryRun !== true) await (await createSqliteStore({ path })).close();
  return report;
}

function look(file: string): MigrationReport {
  const migrations = migrationsFor('sqlite');
  if (!existsSync(file)) return { before: 0, pending: migrations.length };
  try {
    const database = new DatabaseSync(file, { readOnly: true });
    try {
      const pending = pendingMigrations(database, migrations).length;
      return { before: migrations.length - pending, pending };
    } finally {
      database.close();
    }
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : 'unknown reason';
    throw new MetadataError(`Cannot migrate the index ${JSON.stringify(file)}: ${why}`, { cause });
  }
}
