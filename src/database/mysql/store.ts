import type { IndexStore } from '../index-store.ts';
import { openServerStore, type ServerStoreOptions } from '../server-store.ts';
import { mysqlConnectionOf } from './connection.ts';
import { type MysqlClientOptions, mysqlExecutor } from './executor.ts';
import * as statements from './statements.ts';
import { mysqlTableRows } from './table-rows.ts';
import { mysqlUpkeep, reads as upkeepReads } from './upkeep.ts';

export interface MysqlStoreOptions extends MysqlClientOptions, Omit<ServerStoreOptions, 'description'> {}

/**
 * The index and the leases on MySQL from 8 or MariaDB from 10.6 on. For Node and Lambda.
 *
 * @throws MetadataError as `openServerStore`, and for a URL that leads nowhere; the password is never shown
 */
export async function createMysqlStore(options: MysqlStoreOptions): Promise<IndexStore> {
  const { description } = mysqlConnectionOf(options.url);
  const { run, close } = mysqlExecutor(options);
  const { reads } = statements;
  return await openServerStore(
    {
      getPath: (values) => run(reads.selectPath(values)),
      getNar: (values) => run(reads.selectNar(values)),
      recordPath: (values) =>
        run(
          statements.insertNodes(values),
          statements.insertNar(values),
          statements.insertPath(values),
          statements.deleteBannedPath(values),
          statements.insertEdges(values),
          reads.selectPath(values),
        ),
      replacePath: (values) =>
        run(
          statements.insertNodes(values),
          statements.insertNar(values),
          // Before the insertion, whose row could have just this revision.
          statements.updatePath(values),
          statements.insertPath(values),
          statements.deleteBannedPath(values),
          statements.deleteEdges(values),
          statements.insertEdges(values),
          reads.selectPath(values),
        ),
      getBan: (values) => run(upkeepReads.selectBan(values)),
      rejustifyPath: (values) => run(statements.updateJustification(values)),
      markPresent: (values) =>
        run(
          statements.lockNar(values),
          statements.countPresent(values),
          statements.updatePresent(values),
          statements.selectGeneration(values),
        ),
      markAbsent: (values) =>
        run(statements.lockNar(values), statements.countAbsent(values), statements.updateAbsent(values)),
      markQuarantined: (values) =>
        run(
          statements.lockNar(values),
          statements.countQuarantined(values),
          statements.updateQuarantined(values),
        ),
      markVerified: (values) => run(statements.updateVerified(values)),
      listUnverified: (values) => run(reads.selectUnverified(values)),
      listPaths: (values) => run(reads.selectPaths(values)),
      touch: (values) => run(statements.updateAccesses(values)),
      references: (values) => run(reads.selectReferences(values)),
      closure: (values) => run(reads.selectClosure(values)),
      ...mysqlUpkeep({ run }),
      takeLease: (values) => run(statements.takeLease(values), statements.selectLease(values)),
      extendLease: (values) => run(statements.extendLease(values)),
      releaseLease: (values) => run(statements.releaseLease(values)),
      removeEndedLeases: (values) => run(statements.removeEndedLeases(values)),
      selectNoLease: () => run(statements.selectNoLease({})),
      applied: () => run(statements.selectApplied({})),
      rows: mysqlTableRows({ run }),
      close,
    },
    { ...options, description },
  );
}
