import { MetadataError } from './metadata-store.ts';

/**
 * The rows of an index as they are, for copying it to another database: nothing is interpreted, ids included. Faults are
 * `MetadataError`s, and every method may be retried.
 */
export interface TableRows {
  /** Rows by their keys, in ascending order after the one given. */
  list(table: TableName, after: RowKey | null, limit: number): Promise<readonly Cells[]>;

  /**
   * Adds rows; those whose key is there already are passed over. One atomic statement.
   *
   * @throws DanglingRowError where what they refer to is not there
   */
  insert(table: TableName, rows: readonly Cells[]): Promise<void>;

  /** Rows that were added with their ids stand: new rows are to get ids beyond them. */
  settleIds(): Promise<void>;
}

/** A row refers to one that is not there. */
export class DanglingRowError extends MetadataError {
  override readonly name = 'DanglingRowError';
}

/**
 * The tables of an index, in an order in which each refers to earlier ones only. Not the leases, which belong to
 * processes, nor the size counters, which follow from the rows.
 */
export const COPIED_TABLES: readonly TableName[] = [
  'storeHashes',
  'nars',
  'paths',
  'referenceEdges',
  'pins',
  'pinnedPaths',
  'bans',
  'meta',
];

export type TableName =
  'storeHashes' | 'nars' | 'paths' | 'referenceEdges' | 'pins' | 'pinnedPaths' | 'bans' | 'meta';

/** The values of a row: its key first, then the other columns by name. The same in every dialect. */
export type Cells = readonly (string | number | null)[];

/** What the rows of a table are ordered by: one value or two. */
export type RowKey = readonly (string | number)[];

/** How many values at the start of a row are its key. */
export const KEY_LENGTH: Readonly<Record<TableName, number>> = {
  storeHashes: 1,
  nars: 1,
  paths: 1,
  referenceEdges: 2,
  pins: 1,
  pinnedPaths: 2,
  bans: 1,
  meta: 1,
};

/** @throws Error for a row whose key is not whole, which no table has */
export function keyOfRow(table: TableName, row: Cells): RowKey {
  return row.slice(0, KEY_LENGTH[table]).map((cell) => {
    if (cell === null) throw new Error(`A row of ${table} has no key`);
    return cell;
  });
}
