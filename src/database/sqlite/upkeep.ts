import { type SQL, sql } from 'drizzle-orm';
import { type Compiled, value } from '../compile.ts';
import type { Row } from '../rows.ts';
import { COUNTER_SHARDS } from '../tables.ts';
import type { UpkeepQueries } from '../upkeep.ts';
import {
  isOrphanNar,
  isOrphanNode,
  isPinned,
  isPrunable,
  isReferred,
  type UpkeepReads,
  upkeepReads,
} from '../upkeep-reads.ts';
import { compile } from './compile.ts';
import type { SqliteExecutor, SqliteStatement } from './executor.ts';
import { reads as indexReads } from './reads.ts';
import * as tables from './schema.ts';
import { insertNodes } from './writes.ts';

export const reads: UpkeepReads = upkeepReads(tables, {
  compile,
  listed: (name) => sql`json_each(${value(name)}) as listed`,
  whole: (expression) => expression,
});

const isStored = sql.raw(`in ('present', 'evicting')`);
const shardOf = sql.raw(`nars.id % ${COUNTER_SHARDS}`);
const nodeId = sql`(select id from store_hashes where hash = ${value('hash')})`;

/** The entries of a JSON array of arrays as a table, a column for each name. */
function entries(name: string, columns: readonly string[]): SQL {
  const extracted = columns.map((column, at) => sql.raw(`json_extract(value, '$[${at}]') as ${column}`));
  return sql`(select ${sql.join(extracted, sql`, `)} from json_each(${value(name)}))`;
}

const seen = sql`${entries('seen', ['key', 'generation', 'last_access'])} as seen`;
const given = sql`${entries('nars', ['key', 'generation'])} as given`;
// With a plus no index is looked up for the state: in an UPDATE FROM the planner would walk over all that are in it, and
// over the whole list for each of them.
const isGiven = sql`nars.key = given.key and nars.generation = given.generation and +nars.state = 'evicting'`;

const updateEvicting: Compiled<'seen' | 'now' | 'regardless'> = compile(sql`
  update nars set state = 'evicting' from ${seen}
    where nars.key = seen.key and nars.generation = seen.generation and nars.last_access = seen.last_access
      and +nars.state = 'present' and (${value('regardless')} = 1 or not (${isPinned} or ${isReferred}))`);

const selectSeenEvicting: Compiled<'seen'> = compile(sql`
  select nars.id as nar_id, nars.key as key, nars.generation as generation, nars.file_size as file_size,
      store_hashes.hash as hash
    from ${seen} cross join nars on nars.key = seen.key
    left join paths on paths.nar_id = nars.id
    left join store_hashes on store_hashes.id = paths.node_id
    where nars.generation = seen.generation and nars.state = 'evicting' order by nars.id`);

const updateSpared: Compiled<'nars' | 'now'> = compile(sql`
  update nars set state = 'present' from ${given}
    where ${isGiven} and (${isPinned} or ${isReferred})`);

/** Those given that are in that state now, also where an attempt before has changed them. */
const selectGiven = (state: SQL): Compiled<'nars'> =>
  compile(sql`
    select nars.key as key from ${given} cross join nars
      where nars.key = given.key and nars.generation = given.generation and nars.state = ${state}`);
const selectSpared = selectGiven(sql`'present'`);
const selectFinished = selectGiven(sql`'absent'`);

const countFinished: Compiled<'nars'> = compile(sql`
  update size_counters set present_bytes = present_bytes - gone.bytes, present_nars = present_nars - gone.nars
    from (
      select ${shardOf} as shard, sum(coalesce(nars.file_size, 0)) as bytes, count(*) as nars
        from ${given} cross join nars where ${isGiven} group by 1
    ) as gone where size_counters.shard = gone.shard`);

const updateFinished: Compiled<'nars'> = compile(sql`
  update nars set state = 'absent' from ${given} where ${isGiven}`);

const updateObtainable: Compiled<'key' | 'sourceUpstream' | 'sourceUrl'> = compile(sql`
  update nars set pushed = 0, source_upstream = coalesce(source_upstream, ${value('sourceUpstream')}),
      source_url = coalesce(source_url, ${value('sourceUrl')})
    where key = ${value('key')}`);

const upsertPin: Compiled<'name' | 'hash' | 'storePath' | 'createdAt' | 'expiresAt'> = compile(sql`
  insert into pins (name, node_id, store_path, created_at, expires_at)
    values (${value('name')}, ${nodeId}, ${value('storePath')}, ${value('createdAt')}, ${value('expiresAt')})
    on conflict (name) do update set node_id = excluded.node_id, store_path = excluded.store_path,
      created_at = excluded.created_at, expires_at = excluded.expires_at`);

const pinId = sql`(select id from pins where name = ${value('name')})`;

const deletePinned: Compiled<'name'> = compile(sql`delete from pinned_paths where pin_id = ${pinId}`);

const insertPinned: Compiled<'name'> = compile(sql`
  insert into pinned_paths (pin_id, node_id)
    with recursive closure(id) as (
      select node_id from pins where name = ${value('name')}
      union
      select edge.reference from closure join reference_edges as edge on edge.referrer = closure.id
    )
    select ${pinId}, closure.id from closure where true
    on conflict do nothing`);

const deletePin: Compiled<'name'> = compile(
  sql`delete from pins where name = ${value('name')} returning name`,
);

const ownEdges: Compiled<'hash'> = compile(sql`delete from reference_edges where referrer = ${nodeId}`);
const deletePath: Compiled<'hash'> = compile(sql`delete from paths where node_id = ${nodeId} returning id`);

const insertBan: Compiled<'hash' | 'storePath' | 'reason' | 'at'> = compile(sql`
  insert into bans (hash, store_path, reason, banned_at)
    values (${value('hash')}, ${value('storePath')}, ${value('reason')}, ${value('at')})
    on conflict (hash) do nothing`);

/** The NAR of the path alone. */
const isOnlyOf = sql`nars.id = (select nar_id from paths where node_id = ${nodeId})
  and not exists (select 1 from paths where paths.nar_id = nars.id and paths.node_id <> ${nodeId})`;

const countBanned: Compiled<'hash'> = compile(sql`
  update size_counters set present_bytes = present_bytes - coalesce(gone.file_size, 0),
      present_nars = present_nars - 1
    from (select ${shardOf} as shard, file_size from nars where ${isOnlyOf} and state ${isStored}) as gone
    where size_counters.shard = gone.shard`);

const quarantineBanned: Compiled<'hash' | 'quarantine'> = compile(sql`
  update nars set state = 'quarantined', quarantine_reason = ${value('quarantine')}, generation = generation + 1
    where ${isOnlyOf} and state <> 'quarantined'`);

const liftQuarantine: Compiled<'quarantine'> = compile(sql`
  update nars set state = 'absent', quarantine_reason = null
    where state = 'quarantined' and quarantine_reason = ${value('quarantine')}`);

const deleteBan: Compiled<'hash'> = compile(
  sql`delete from bans where hash = ${value('hash')} returning hash`,
);

const selectMark: Compiled<'name'> = compile(
  sql`select value as value from meta where key = ${value('name')}`,
);
const upsertMark: Compiled<'name' | 'value'> = compile(sql`
  insert into meta (key, value) values (${value('name')}, ${value('value')})
    on conflict (key) do update set value = excluded.value`);
const deleteMark: Compiled<'name'> = compile(sql`delete from meta where key = ${value('name')}`);

const zeroCounters: Compiled = compile(sql`update size_counters set present_bytes = 0, present_nars = 0`);
/** Bytes and NARs of each shard, in one pass: for groups SQLite would sort a row for each NAR, and hold them all. */
const countedShards = sql.join(
  Array.from({ length: COUNTER_SHARDS }, (_, shard) => {
    const isIts = sql`filter (where ${shardOf} = ${sql.raw(String(shard))})`;
    return sql`json_array(coalesce(sum(file_size) ${isIts}, 0), count(*) ${isIts})`;
  }),
  sql`, `,
);
const fillCounters: Compiled = compile(sql`
  update size_counters set present_bytes = json_extract(actual.value, '$[0]'),
      present_nars = json_extract(actual.value, '$[1]')
    from (select json_array(${countedShards}) as shards from nars where state ${isStored}) as counted,
      json_each(counted.shards) as actual
    where size_counters.shard = actual.key`);

const prunable = sql`(select paths.id from paths join nars on nars.id = paths.nar_id
  where paths.id in (select value from json_each(${value('ids')})) and ${isPrunable})`;
const deletePrunedEdges: Compiled<'ids' | 'unusedSince'> = compile(sql`
  delete from reference_edges where referrer in (select node_id from paths where id in ${prunable})`);
const deletePruned: Compiled<'ids' | 'unusedSince'> = compile(
  sql`delete from paths where id in ${prunable} returning id`,
);

const listedIds = sql`(select value from json_each(${value('ids')}))`;
const deleteOrphanNars: Compiled<'ids'> = compile(
  sql`delete from nars where id in ${listedIds} and ${isOrphanNar} returning id`,
);
const deleteOrphanNodes: Compiled<'ids'> = compile(
  sql`delete from store_hashes where id in ${listedIds} and ${isOrphanNode} returning id`,
);

/** The upkeep in SQLite's dialect; it is closed with the executor. */
export function sqliteUpkeep(executor: SqliteExecutor): UpkeepQueries {
  const one = (statement: SqliteStatement): Promise<readonly Row[]> => executor.execute(statement);
  /** The rows of the last statement of a batch. */
  const lastOf = async (...statements: readonly SqliteStatement[]): Promise<readonly Row[]> =>
    (await executor.batch(statements)).at(-1) ?? [];

  return {
    listEvictable: (values) => one(reads.selectEvictable(values)),
    markEvicting: (values) => lastOf(updateEvicting(values), selectSeenEvicting(values)),
    spareEvicting: (values) => lastOf(updateSpared(values), selectSpared(values)),
    finishEvicting: (values) => lastOf(countFinished(values), updateFinished(values), selectFinished(values)),
    listEvicting: (values) => one(reads.selectEvicting(values)),
    markObtainable: (values) => one(updateObtainable(values)),
    putPin: (values) =>
      lastOf(
        insertNodes({ hashes: values.nodes }),
        upsertPin(values),
        deletePinned(values),
        insertPinned(values),
      ),
    deletePin: (values) => lastOf(deletePinned(values), deletePin(values)),
    listPins: () => one(reads.selectPins({})),
    extendPin: (values) => one(insertPinned(values)),
    pinnedTotals: (values) => one(reads.selectPinnedTotals(values)),
    getKeeper: (values) => one(reads.selectKeeper(values)),
    removePath: (values) => lastOf(ownEdges(values), deletePath(values)),
    banPath: (values) =>
      lastOf(
        insertBan(values),
        countBanned(values),
        quarantineBanned(values),
        ownEdges(values),
        deletePath(values),
      ),
    unbanPath: (values) => lastOf(liftQuarantine(values), deleteBan(values)),
    listBans: () => one(reads.selectBans({})),
    getMark: (values) => one(selectMark(values)),
    setMark: (values) => one(upsertMark(values)),
    removeMark: (values) => one(deleteMark(values)),
    listNars: (values) => one(reads.selectNars(values)),
    findNars: (values) => one(reads.selectNarsByKey(values)),
    findPaths: (values) => one(reads.selectPathsByHash(values)),
    listDangling: (values) => one(reads.selectDangling(values)),
    sumTotals: () => one(reads.selectSums({})),
    repairTotals: () => lastOf(zeroCounters({}), fillCounters({})),
    totals: () => one(indexReads.selectTotals({})),
    countPaths: () => one(reads.selectPathCount({})),
    listPrunable: (values) => one(reads.selectPrunable(values)),
    prunePaths: (values) => lastOf(deletePrunedEdges(values), deletePruned(values)),
    listOrphanNars: (values) => one(reads.selectOrphanNars(values)),
    listOrphanNodes: (values) => one(reads.selectOrphanNodes(values)),
    pruneOrphanNars: (values) => one(deleteOrphanNars(values)),
    pruneOrphanNodes: (values) => one(deleteOrphanNodes(values)),
  };
}
