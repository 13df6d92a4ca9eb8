import type { Totals } from '../database/metadata-store.ts';
import {
  type Cells,
  COPIED_TABLES,
  DanglingRowError,
  keyOfRow,
  type RowKey,
  type TableName,
  type TableRows,
} from '../database/table-rows.ts';
import type { UpkeepStore } from '../database/upkeep-store.ts';
import { COPY_MARK, REBUILDING_MARK } from './marks.ts';
import type { Platform } from '../platform.ts';

/** An index to copy from or to. */
export interface CopiedIndex {
  /** As `MetadataStore.description`. */
  readonly description: string;
  readonly upkeep: UpkeepStore;
  readonly rows: TableRows;
}

export interface CopyIndexOptions {
  readonly platform: Pick<Platform, 'clock' | 'checkpoint'>;
  /** Only look whether there could be a copy, and count what there is to be copied. */
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal;
  /** Called after each page. */
  readonly onProgress?: (report: CopyIndexReport) => void;
}

export interface CopyIndexReport {
  /** Rows that this run has copied, or with `dryRun` would copy, by table. */
  readonly copied: Readonly<Partial<Record<TableName, number>>>;
  /** Rows of both that were compared, and are equal. */
  readonly compared: number;
  /** What is present in the copy; null before it is complete. */
  readonly totals: Totals | null;
  /** It went on from a run before. */
  readonly resumed: boolean;
}

/** The copy cannot begin, or is not equal to what it was made of. The message says what to do. */
export class CopyIndexError extends Error {
  override readonly name = 'CopyIndexError';
}

const PAGE = 500;
/** Rows that are compared at once. */
const COMPARED = 100;
/** About so many characters go in one statement: servers take 16 MiB. */
const MOST_CHARACTERS = 2 * 1024 * 1024;

const MEANWHILE =
  'something has written to one of them meanwhile. Stop what does, and begin again with an empty database';

/** How far a copy has come, kept as JSON in the index that it makes. */
interface CopyProgress {
  readonly from: string;
  /** Null when all rows were copied and compared. */
  readonly table: TableName | null;
  readonly after: RowKey | null;
}

/**
 * Makes an empty index equal to another one, row by row, with the ids: what refers to ids (where sweeps go on) holds.
 * Goes on where a run before it ended. Until it is complete, nothing is evicted from the copy (`REBUILDING_MARK`). At the
 * end every row of both is compared: what was written to either meanwhile is an error. Leases are not copied.
 *
 * @throws CopyIndexError, MetadataError, and the signal's reason; after the last two, a later run goes on from there
 */
export async function copyIndex(
  from: CopiedIndex,
  to: CopiedIndex,
  options: CopyIndexOptions,
): Promise<CopyIndexReport> {
  const { platform, signal, onProgress } = options;
  const begun = await progressOf(from, to);
  const copied: Partial<Record<TableName, number>> = {};
  let compared = 0;
  const report = (totals: Totals | null = null): CopyIndexReport => ({
    copied: { ...copied },
    compared,
    totals,
    resumed: begun !== null,
  });

  const save = (table: TableName | null, after: RowKey | null): Promise<void> => {
    const progress: CopyProgress = { from: from.description, table, after };
    return to.upkeep.setMark(COPY_MARK, JSON.stringify(progress));
  };

  async function copyTable(table: TableName, after: RowKey | null): Promise<void> {
    copied[table] ??= 0;
    for (let last = after; ;) {
      signal?.throwIfAborted();
      const page = await from.rows.list(table, last, PAGE);
      const end = page.at(-1);
      if (end === undefined) return;
      const rows = page.filter((row) => isCopied(table, row));
      if (options.dryRun !== true) {
        for (const some of inStatements(rows)) {
          await platform.checkpoint?.('copy:rows');
          await insert(table, some);
        }
        await platform.checkpoint?.('copy:mark');
        await save(table, keyOfRow(table, end));
      }
      last = keyOfRow(table, end);
      copied[table] += rows.length;
      onProgress?.(report());
      // Between two files nothing else waits: signals would not be heard.
      await platform.clock.sleep(0);
    }
  }

  async function insert(table: TableName, rows: readonly Cells[]): Promise<void> {
    try {
      await to.rows.insert(table, rows);
    } catch (cause) {
      if (!(cause instanceof DanglingRowError)) throw cause;
      // What it refers to came, or went, since the tables before this one were copied.
      throw new CopyIndexError(
        `${to.description} cannot take all rows of ${table} from ${from.description}: ${MEANWHILE}`,
        { cause },
      );
    }
  }

  async function compareTable(table: TableName): Promise<void> {
    const original = new RowReader(from.rows, table);
    const copy = new RowReader(to.rows, table);
    for (;;) {
      signal?.throwIfAborted();
      const [expected, found] = await Promise.all([original.next(), copy.next()]);
      const difference = differenceOf(table, expected, found);
      if (difference !== null) {
        throw new CopyIndexError(
          `${to.description} is not equal to ${from.description} in ${difference}: ${MEANWHILE}`,
        );
      }
      if (expected.length === 0) return;
      compared += expected.length;
      onProgress?.(report());
      await platform.clock.sleep(0);
    }
  }

  if (begun?.table !== null) {
    if (options.dryRun !== true) {
      await platform.checkpoint?.('copy:begin');
      await to.upkeep.setMark(REBUILDING_MARK, String(platform.clock.now()));
      // Before the first row: an index with rows and without the mark is somebody else's.
      if (begun === null) await save('storeHashes', null);
    }
    const first = begun === null ? 0 : COPIED_TABLES.indexOf(begun.table);
    for (const table of COPIED_TABLES.slice(first)) {
      await copyTable(table, table === begun?.table ? begun.after : null);
    }
    if (options.dryRun === true) return report();
    await platform.checkpoint?.('copy:settle');
    await to.rows.settleIds();
    for (const table of COPIED_TABLES) await compareTable(table);
    const { actual } = await from.upkeep.recountTotals({ repair: false });
    await platform.checkpoint?.('copy:totals');
    await to.upkeep.recountTotals({ repair: true });
    const { counted } = await to.upkeep.recountTotals({ repair: false });
    if (JSON.stringify(counted) !== JSON.stringify(actual)) {
      throw new CopyIndexError(
        `${to.description} has ${counted.presentNars} NARs of ${counted.presentBytes} bytes, expected ` +
          `${actual.presentNars} of ${actual.presentBytes}: ${MEANWHILE}`,
      );
    }
    await platform.checkpoint?.('copy:complete');
    await save(null, null);
  }
  if (options.dryRun === true) return report();
  // Whatever comes between: what was complete is never compared again, as it may be in use by then.
  await platform.checkpoint?.('copy:open');
  await to.upkeep.setMark(REBUILDING_MARK, null);
  await platform.checkpoint?.('copy:end');
  await to.upkeep.setMark(COPY_MARK, null);
  const { counted } = await to.upkeep.recountTotals({ repair: false });
  return report(counted);
}

/** Whole pages of the rows that are compared, in the order of their keys. */
class RowReader {
  readonly #rows: TableRows;
  readonly #table: TableName;
  #last: RowKey | null = null;
  #ahead: Cells[] = [];

  constructor(rows: TableRows, table: TableName) {
    this.#rows = rows;
    this.#table = table;
  }

  /** @returns fewer than a page only at the end */
  async next(): Promise<readonly Cells[]> {
    while (this.#ahead.length < COMPARED) {
      const page = await this.#rows.list(this.#table, this.#last, COMPARED);
      const end = page.at(-1);
      if (end === undefined) break;
      this.#last = keyOfRow(this.#table, end);
      this.#ahead.push(...page.filter((row) => isCopied(this.#table, row)));
    }
    return this.#ahead.splice(0, COMPARED);
  }
}

/** Marks of the copy itself are of its target alone. */
function isCopied(table: TableName, [key]: Cells): boolean {
  return table !== 'meta' || (key !== COPY_MARK && key !== REBUILDING_MARK);
}

/** @returns null where nothing was copied yet @throws CopyIndexError where no copy may begin */
async function progressOf(from: CopiedIndex, to: CopiedIndex): Promise<CopyProgress | null> {
  const mark = await to.upkeep.getMark(COPY_MARK);
  const progress = mark === null ? null : readProgress(mark);
  if (progress !== null && progress.from !== from.description) {
    throw new CopyIndexError(
      `${to.description} is an unfinished copy of ${progress.from}, not of ${from.description}: ` +
        'give that one, or an empty database',
    );
  }
  if ((await from.upkeep.getMark(REBUILDING_MARK)) !== null) {
    throw new CopyIndexError(
      `${from.description} is not complete itself: let "snowcap reindex", or the copy that makes it, come to its end`,
    );
  }
  if (progress !== null) return progress;
  for (const table of COPIED_TABLES) {
    const rows = await to.rows.list(table, null, 3);
    if (rows.some((row) => isCopied(table, row))) {
      throw new CopyIndexError(`${to.description} is not empty: give an empty database`);
    }
  }
  return null;
}

/** @throws CopyIndexError */
function readProgress(text: string): CopyProgress {
  const value: unknown = JSON.parse(text);
  if (typeof value === 'object' && value !== null) {
    const from: unknown = Reflect.get(value, 'from');
    const name: unknown = Reflect.get(value, 'table');
    const key: unknown = Reflect.get(value, 'after');
    const table = name === null ? null : COPIED_TABLES.find((each) => each === name);
    const after = Array.isArray(key)
      ? key.filter((part) => typeof part === 'string' || typeof part === 'number')
      : null;
    if (typeof from === 'string' && table !== undefined) return { from, table, after };
  }
  throw new CopyIndexError('The target is an unfinished copy of another version: give an empty database');
}

function* inStatements(rows: readonly Cells[]): Generator<readonly Cells[], void, void> {
  let some: Cells[] = [];
  let characters = 0;
  for (const row of rows) {
    const length = row.reduce<number>((sum, cell) => sum + String(cell).length + 4, 0);
    if (some.length > 0 && characters + length > MOST_CHARACTERS) {
      yield some;
      some = [];
      characters = 0;
    }
    some.push(row);
    characters += length;
  }
  if (some.length > 0) yield some;
}

/** Where two pages differ; null where they do not. Cell by cell: texts of whole pages would be most of the memory. */
function differenceOf(table: TableName, expected: readonly Cells[], found: readonly Cells[]): string | null {
  const rows = Math.max(expected.length, found.length);
  for (let at = 0; at < rows; at += 1) {
    const row = expected[at];
    const other = found[at];
    if (row !== undefined && row.every((cell, column) => cell === other?.[column])) continue;
    return `${table}, at ${JSON.stringify(keyOfRow(table, row ?? other ?? []))}`;
  }
  return null;
}
