import { type SQL, sql } from 'drizzle-orm';
import { type Compiled, value } from '../compile.ts';
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
import { compile, listed } from './compile.ts';
import type { MysqlExecutor } from './executor.ts';
import * as tables from './schema.ts';
import { insertNodes, reads as indexReads } from './statements.ts';

/**
 * As in `statements.ts`: statements of one transaction in READ COMMITTED, NARs locked before counters. A table that is
 * updated cannot be read in a subquery of the same statement, but in one that is written out first: `distinct` sees to
 * that.
 */
export const reads: UpkeepReads = upkeepReads(tables, {
  compile,
  listed,
  whole: (expression) => sql`cast(${expression} as signed)`,
});

const isStored = sql.raw(`in ('present', 'evicting')`);
const shardOf = sql.raw(`nars.id % ${COUNTER_SHARDS}`);
const nodeId = sql`(select store_hashes.id from store_hashes where store_hashes.hash = ${value('hash')})`;

const name = sql`convert(item.name using utf8mb4) collate utf8mb4_bin as name`;
const seen = sql`(
    select ${name}, item.generation as generation, item.last_access as last_access
      from json_table(${value('seen')}, '$[*]' columns (
        name varchar(512) path '$[0]', generation bigint path '$[1]', last_access bigint path '$[2]')) as item
  ) as seen`;
const given = sql`(
    select ${name}, item.generation as generation
      from json_table(${value('nars')}, '$[*]' columns (
        name varchar(512) path '$[0]', generation bigint path '$[1]')) as item
  ) as given`;
const narsGiven = sql`${given} join nars on nars.\`key\` = given.name and nars.generation = given.generation`;

const lockSeen: Compiled<'seen'> = compile(
  sql`select nars.id from ${seen} join nars on nars.\`key\` = seen.name order by nars.id for update`,
);
const updateEvicting: Compiled<'seen' | 'now' | 'regardless'> = compile(sql`
  update nars as target join (
    select distinct nars.id as id from ${seen} join nars on nars.\`key\` = seen.name
      where nars.generation = seen.generation and nars.last_access = seen.last_access and nars.state = 'present'
        and (${value('regardless')} = 1 or not (${isPinned} or ${isReferred}))
  ) as eligible on eligible.id = target.id
  set target.state = 'evicting'`);
const selectSeenEvicting: Compiled<'seen'> = compile(sql`
  select nars.id as nar_id, nars.\`key\` as \`key\`, nars.generation as generation, nars.file_size as file_size,
      store_hashes.hash as hash
    from ${seen} join nars on nars.\`key\` = seen.name and nars.generation = seen.generation
    left join paths on paths.nar_id = nars.id
    left join store_hashes on store_hashes.id = paths.node_id
    where nars.state = 'evicting' order by nars.id`);

const lockGiven: Compiled<'nars'> = compile(
  sql`select nars.id from ${narsGiven} order by nars.id for update`,
);
const updateSpared: Compiled<'nars' | 'now'> = compile(sql`
  update nars as target join (
    select distinct nars.id as id from ${narsGiven} where nars.state = 'evicting' and (${isPinned} or ${isReferred})
  ) as kept on kept.id = target.id
  set target.state = 'present'`);
const countFinished: Compiled<'nars'> = compile(sql`
  update size_counters join (
    select ${shardOf} as shard, sum(coalesce(nars.file_size, 0)) as bytes, count(*) as amount
      from ${narsGiven} where nars.state = 'evicting' group by 1 order by 1
  ) as gone on gone.shard = size_counters.shard
  set size_counters.present_bytes = size_counters.present_bytes - gone.bytes,
    size_counters.present_nars = size_counters.present_nars - gone.amount`);
const updateFinished: Compiled<'nars'> = compile(sql`
  update ${narsGiven} set nars.state = 'absent' where nars.state = 'evicting'`);
const selectGiven = (state: SQL): Compiled<'nars'> =>
  compile(sql`select nars.\`key\` as \`key\` from ${narsGiven} where nars.state = ${state}`);
const selectSpared: Compiled<'nars'> = selectGiven(sql`'present'`);
const selectFinished: Compiled<'nars'> = selectGiven(sql`'absent'`);

const updateObtainable: Compiled<'key' | 'sourceUpstream' | 'sourceUrl'> = compile(sql`
  update nars set pushed = 0, source_upstream = coalesce(source_upstream, ${value('sourceUpstream')}),
      source_url = coalesce(source_url, ${value('sourceUrl')})
    where \`key\` = ${value('key')}`);

const upsertPin: Compiled<'name' | 'hash' | 'storePath' | 'createdAt' | 'expiresAt'> = compile(sql`
  insert into pins (name, node_id, store_path, created_at, expires_at)
    values (${value('name')}, ${nodeId}, ${value('storePath')}, ${value('createdAt')}, ${value('expiresAt')})
    on duplicate key update node_id = values(node_id), store_path = values(store_path),
      created_at = values(created_at), expires_at = values(expires_at)`);
const pinId = sql`(select pins.id from pins where pins.name = ${value('name')})`;
const deletePinned: Compiled<'name'> = compile(sql`delete from pinned_paths where pin_id = ${pinId}`);
const insertPinned: Compiled<'name'> = compile(sql`
  ${sql.raw('insert into pinned_paths (pin_id, node_id)')}
    with recursive closure(id) as (
      select pins.node_id from pins where pins.name = ${value('name')}
      union
      select edge.reference from closure join reference_edges as edge on edge.referrer = closure.id
    )
    select ${pinId}, closure.id from closure
    on duplicate key update pin_id = pinned_paths.pin_id`);
const deletePin: Compiled<'name'> = compile(sql`delete from pins where name = ${value('name')}`);

const deleteEdges: Compiled<'hash'> = compile(sql`delete from reference_edges where referrer = ${nodeId}`);
const deletePath: Compiled<'hash'> = compile(sql`delete from paths where node_id = ${nodeId}`);

const insertBan: Compiled<'hash' | 'storePath' | 'reason' | 'at'> = compile(sql`
  insert into bans (hash, store_path, reason, banned_at)
    values (${value('hash')}, ${value('storePath')}, ${value('reason')}, ${value('at')})
    on duplicate key update hash = bans.hash`);
const isOnlyOf = sql`nars.id = (select paths.nar_id from paths where paths.node_id = ${nodeId})
  and not exists (select 1 from paths where paths.nar_id = nars.id and paths.node_id <> ${nodeId})`;
const lockBanned: Compiled<'hash'> = compile(
  sql`select nars.id from nars join paths on paths.nar_id = nars.id where paths.node_id = ${nodeId} for update`,
);
const countBanned: Compiled<'hash'> = compile(sql`
  update size_counters join (
    select distinct ${shardOf} as shard, coalesce(nars.file_size, 0) as bytes from nars
      where ${isOnlyOf} and nars.state ${isStored}
  ) as gone on gone.shard = size_counters.shard
  set size_counters.present_bytes = size_counters.present_bytes - gone.bytes,
    size_counters.present_nars = size_counters.present_nars - 1`);
const quarantineBanned: Compiled<'hash' | 'quarantine'> = compile(sql`
  update nars set state = 'quarantined', quarantine_reason = ${value('quarantine')}, generation = generation + 1
    where ${isOnlyOf} and state <> 'quarantined'`);
const liftQuarantine: Compiled<'quarantine'> = compile(sql`
  update nars set state = 'absent', quarantine_reason = null
    where state = 'quarantined' and quarantine_reason = ${value('quarantine')}`);
const deleteBan: Compiled<'hash'> = compile(sql`delete from bans where hash = ${value('hash')}`);

const selectMark: Compiled<'name'> = compile(
  sql`select value as value from meta where \`key\` = ${value('name')}`,
);
const upsertMark: Compiled<'name' | 'value'> = compile(sql`
  insert into meta (\`key\`, value) values (${value('name')}, ${value('value')})
    on duplicate key update value = values(value)`);
const deleteMark: Compiled<'name'> = compile(sql`delete from meta where \`key\` = ${value('name')}`);

/** By how much the counters are wrong in one snapshot of both: what changes meanwhile changes both. */
const repairTotals: Compiled = compile(sql`
  update size_counters as target join (
    select distinct counter.shard as shard,
        coalesce(actual.bytes, 0) - counter.present_bytes as bytes,
        coalesce(actual.amount, 0) - counter.present_nars as amount
      from size_counters as counter
      left join (
        select ${shardOf} as shard, sum(nars.file_size) as bytes, count(*) as amount
          from nars where nars.state ${isStored} group by 1
      ) as actual on actual.shard = counter.shard
  ) as wrong on wrong.shard = target.shard
  set target.present_bytes = target.present_bytes + wrong.bytes,
    target.present_nars = target.present_nars + wrong.amount`);

const ids = sql`json_table(${value('ids')}, '$[*]' columns (id bigint path '$')) as listed`;
const lockPrunable: Compiled<'ids'> = compile(sql`
  select nars.id from ${ids} join paths on paths.id = listed.id join nars on nars.id = paths.nar_id
    order by nars.id for update`);
const deletePrunedEdges: Compiled<'ids' | 'unusedSince'> = compile(sql`
  delete reference_edges from ${ids} join paths on paths.id = listed.id join nars on nars.id = paths.nar_id
    join reference_edges on reference_edges.referrer = paths.node_id where ${isPrunable}`);
const deletePruned: Compiled<'ids' | 'unusedSince'> = compile(sql`
  delete paths from ${ids} join paths on paths.id = listed.id join nars on nars.id = paths.nar_id
    where ${isPrunable}`);
const deleteOrphanNars: Compiled<'ids'> = compile(
  sql`delete nars from ${ids} join nars on nars.id = listed.id where ${isOrphanNar}`,
);
const deleteOrphanNodes: Compiled<'ids'> = compile(
  sql`delete store_hashes from ${ids} join store_hashes on store_hashes.id = listed.id where ${isOrphanNode}`,
);

/** The upkeep on MySQL and MariaDB; it is closed with the executor. */
export function mysqlUpkeep({ run }: Pick<MysqlExecutor, 'run'>): UpkeepQueries {
  return {
    listEvictable: (values) => run(reads.selectEvictable(values)),
    markEvicting: (values) => run(lockSeen(values), updateEvicting(values), selectSeenEvicting(values)),
    spareEvicting: (values) => run(lockGiven(values), updateSpared(values), selectSpared(values)),
    finishEvicting: (values) =>
      run(lockGiven(values), countFinished(values), updateFinished(values), selectFinished(values)),
    listEvicting: (values) => run(reads.selectEvicting(values)),
    markObtainable: (values) => run(updateObtainable(values)),
    putPin: (values) =>
      run(insertNodes(values), upsertPin(values), deletePinned(values), insertPinned(values)),
    deletePin: (values) => run(deletePinned(values), deletePin(values)),
    listPins: () => run(reads.selectPins({})),
    extendPin: (values) => run(insertPinned(values)),
    pinnedTotals: (values) => run(reads.selectPinnedTotals(values)),
    getKeeper: (values) => run(reads.selectKeeper(values)),
    removePath: (values) => run(deleteEdges(values), deletePath(values)),
    banPath: (values) =>
      run(
        insertBan(values),
        lockBanned(values),
        countBanned(values),
        quarantineBanned(values),
        deleteEdges(values),
        deletePath(values),
      ),
    unbanPath: (values) => run(liftQuarantine(values), deleteBan(values)),
    listBans: () => run(reads.selectBans({})),
    getMark: (values) => run(selectMark(values)),
    setMark: (values) => run(upsertMark(values)),
    removeMark: (values) => run(deleteMark(values)),
    listNars: (values) => run(reads.selectNars(values)),
    findNars: (values) => run(reads.selectNarsByKey(values)),
    findPaths: (values) => run(reads.selectPathsByHash(values)),
    listDangling: (values) => run(reads.selectDangling(values)),
    sumTotals: () => run(reads.selectSums({})),
    repairTotals: () => run(repairTotals({})),
    totals: () => run(indexReads.selectTotals({})),
    countPaths: () => run(reads.selectPathCount({})),
    listPrunable: (values) => run(reads.selectPrunable(values)),
    prunePaths: (values) => run(lockPrunable(values), deletePrunedEdges(values), deletePruned(values)),
    listOrphanNars: (values) => run(reads.selectOrphanNars(values)),
    listOrphanNodes: (values) => run(reads.selectOrphanNodes(values)),
    pruneOrphanNars: (values) => run(deleteOrphanNars(values)),
    pruneOrphanNodes: (values) => run(deleteOrphanNodes(values)),
  };
}
