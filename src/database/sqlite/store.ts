import { createIndex, type IndexStore, type MetadataStoreOptions } from '../index-store.ts';
import type { Row } from '../rows.ts';
import { createUpkeep } from '../upkeep.ts';
import type { SqliteExecutor, SqliteStatement } from './executor.ts';
import { createLeaseStore } from './leases.ts';
import { reads } from './reads.ts';
import { sqliteTableRows } from './table-rows.ts';
import { reads as upkeepReads, sqliteUpkeep } from './upkeep.ts';
import * as writes from './writes.ts';

/**
 * The index over any driver of SQLite's dialect, and the leases beside it. The database must have the schema of
 * `drizzle/sqlite` already. Takes the executor over: `close` closes it.
 */
export function createMetadataStore(executor: SqliteExecutor, options: MetadataStoreOptions): IndexStore {
  /** The rows of the last statement of a batch. */
  async function lastOf(statements: readonly SqliteStatement[]): Promise<readonly Row[]> {
    return (await executor.batch(statements)).at(-1) ?? [];
  }

  const index = createIndex(
    {
      getPath: (values) => executor.execute(reads.selectPath(values)),
      getNar: (values) => executor.execute(reads.selectNar(values)),
      recordPath: (values) =>
        lastOf([
          writes.insertNar(values),
          writes.insertNodes({ hashes: values.nodes }),
          writes.insertPath(values),
          writes.insertEdges(values),
          reads.selectPath(values),
        ]),
      replacePath: (values) =>
        lastOf([
          writes.insertNar(values),
          writes.insertNodes({ hashes: values.nodes }),
          // Before the insertion, whose row could have just this revision.
          writes.updatePath(values),
          writes.insertPath(values),
          writes.deleteEdges(values),
          writes.insertEdges(values),
          reads.selectPath(values),
        ]),
      getBan: (values) => executor.execute(upkeepReads.selectBan(values)),
      rejustifyPath: (values) => executor.execute(writes.updateJustification(values)),
      markPresent: (values) => lastOf([writes.countPresent(values), writes.updatePresent(values)]),
      markAbsent: (values) => lastOf([writes.countAbsent(values), writes.updateAbsent(values)]),
      markQuarantined: (values) =>
        lastOf([writes.countQuarantined(values), writes.updateQuarantined(values)]),
      markVerified: (values) => executor.execute(writes.updateVerified(values)),
      listUnverified: (values) => executor.execute(reads.selectUnverified(values)),
      listPaths: (values) => executor.execute(reads.selectPaths(values)),
      touch: (values) => executor.execute(writes.updateAccesses(values)),
      references: (values) => executor.execute(reads.selectReferences(values)),
      closure: (values) => executor.execute(reads.selectClosure(values)),
      totals: () => executor.execute(reads.selectTotals({})),
      close: () => executor.close(),
    },
    options,
  );
  return Object.assign(index, {
    leases: createLeaseStore(executor, options.description),
    upkeep: createUpkeep(sqliteUpkeep(executor), options.checkpoint),
    rows: sqliteTableRows(executor),
  });
}
