import { parseDatabaseUrl } from '../database-url.ts';
import type { IndexStore } from '../index-store.ts';
import { openServerStore, type ServerStoreOptions } from '../server-store.ts';
import type { PostgresClientOptions } from './client.ts';
import { postgresExecutor } from './executor.ts';
import * as statements from './statements.ts';
import { postgresTableRows } from './table-rows.ts';
import { postgresUpkeep, reads as upkeepReads } from './upkeep.ts';

export interface PostgresStoreOptions
  extends PostgresClientOptions, Omit<ServerStoreOptions, 'description'> {}

/**
 * The index and the leases on PostgreSQL 13 or newer, or on what speaks its protocol, as Hyperdrive and PgBouncer.
 * Needs nothing of Node: on Workers it is one for each request, as connections are bound to it.
 *
 * @throws MetadataError as `openServerStore`, and for a URL that leads nowhere; the password is never shown
 */
export async function createPostgresStore(options: PostgresStoreOptions): Promise<IndexStore> {
  const { url, description } = parseDatabaseUrl(options.url, ['postgres', 'postgresql']);
  const prepare = options.prepare ?? url.searchParams.get('prepare') === 'true';
  const { execute, close } = postgresExecutor({ ...options, prepare });
  const { reads } = statements;
  return await openServerStore(
    {
      getPath: (values) => execute(reads.selectPath(values)),
      getNar: (values) => execute(reads.selectNar(values)),
      recordPath: (values) => execute(statements.recordPath(values)),
      replacePath: (values) => execute(statements.replacePath(values)),
      getBan: (values) => execute(upkeepReads.selectBan(values)),
      rejustifyPath: (values) => execute(statements.updateJustification(values)),
      markPresent: (values) => execute(statements.updatePresent(values)),
      markAbsent: (values) => execute(statements.updateAbsent(values)),
      markQuarantined: (values) => execute(statements.updateQuarantined(values)),
      markVerified: (values) => execute(statements.updateVerified(values)),
      listUnverified: (values) => execute(reads.selectUnverified(values)),
      listPaths: (values) => execute(reads.selectPaths(values)),
      touch: (values) => execute(statements.updateAccesses(values)),
      references: (values) => execute(reads.selectReferences(values)),
      closure: (values) => execute(reads.selectClosure(values)),
      ...postgresUpkeep({ execute }),
      takeLease: (values) => execute(statements.takeLease(values)),
      extendLease: (values) => execute(statements.extendLease(values)),
      releaseLease: (values) => execute(statements.releaseLease(values)),
      removeEndedLeases: (values) => execute(statements.removeEndedLeases(values)),
      selectNoLease: () => execute(statements.selectNoLease({})),
      applied: () => execute(statements.selectApplied({})),
      rows: postgresTableRows({ execute }),
      close,
    },
    { ...options, description },
  );
}
