import { createIndex, type IndexQueries, type IndexStore, type MetadataStoreOptions } from './index-store.ts';
import { createLeases, type LeaseQueries } from './leases.ts';
import { MetadataError } from './metadata-store.ts';
import { type Migration, pendingAfter, RUN_MIGRATE, UnsuitableDatabaseError } from './migrations.ts';
import { isOutage } from './retry.ts';
import type { Row } from './rows.ts';
import type { TableRows } from './table-rows.ts';
import { createUpkeep, type UpkeepQueries } from './upkeep.ts';

/** The queries of a database server. */
export interface ServerQueries extends IndexQueries, LeaseQueries, UpkeepQueries {
  /** The migrations that were applied: rows with a `hash`, oldest first. */
  applied(): Promise<readonly Row[]>;
  readonly rows: TableRows;
}

export interface ServerStoreOptions extends MetadataStoreOptions {
  /**
   * When a schema of another version is noticed: at the start, against these migrations (those of this version), or
   * where no query is to be spent on it, when a statement fails for it.
   */
  readonly checkSchema: readonly Migration[] | 'on-fault';
  /**
   * A server that cannot be reached at the start is told here, and the store is opened all the same: what is stored is
   * served without it (law 6), and a schema of another version is noticed when a statement fails.
   *
   * @default the start fails
   */
  readonly onOutage?: ((error: MetadataError) => void) | undefined;
}

/**
 * The index on a database server. Its schema is not touched: `snowcap migrate` is for that.
 *
 * @throws MetadataError if it cannot be reached (but see `onOutage`), or its schema is not that of this version; with `on-fault` never.
 *   The queries are closed then
 */
export async function openServerStore(
  queries: ServerQueries,
  options: ServerStoreOptions,
): Promise<IndexStore> {
  if (options.checkSchema !== 'on-fault') {
    try {
      const applied = (await queries.applied()).map((row) => row['hash']);
      requireAll(applied, options.checkSchema);
    } catch (cause) {
      const why = `Cannot open the index ${options.description}: ${reasonOf(cause)}`;
      const error = new MetadataError(why, { cause });
      if (options.onOutage === undefined || !isOutage(cause)) {
        await queries.close();
        throw error;
      }
      options.onOutage(error);
    }
  }
  return Object.assign(createIndex(queries, options), {
    leases: createLeases(queries, options.description),
    upkeep: createUpkeep(queries, options.checkpoint),
    rows: queries.rows,
  });
}

function requireAll(applied: readonly unknown[], migrations: readonly Migration[]): void {
  const pending = pendingAfter(applied, migrations, 'another database');
  if (pending.length > 0) {
    throw new UnsuitableDatabaseError(
      `its schema is older than this version, ${pending.length} of ${migrations.length} migrations are missing: ${RUN_MIGRATE}`,
    );
  }
}

function reasonOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : 'unknown reason';
}
