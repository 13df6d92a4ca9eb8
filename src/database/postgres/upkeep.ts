import { type SQL, sql } from 'drizzle-orm';
import { PgDialect } from 'drizzle-orm/pg-core';
import { type Compiled, compilerOf, value } from '../compile.ts';
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
import type { PostgresExecutor } from './executor.ts';
import * as tables from './schema.ts';
import { reads as indexReads } from './statements.ts';

/**
 * As in `statements.ts`: one statement for each operation, NARs locked in the order of their ids before the counters in
 * the order of their shards, and conditions checked on the rows as they are once they are locked.
 */
const compile = compilerOf(new PgDialect());
const whole = (name: string): SQL => sql`${value(name)}::bigint`;

export const reads: UpkeepReads = upkeepReads(tables, {
  compile,
  listed: (name) => sql`jsonb_array_elements_text(${value(name)}::text::jsonb) as listed(value)`,
  whole: (expression) => sql`(${expression})::bigint`,
});

const isStored = sql.raw(`in ('present', 'evicting')`);
const shards = sql.raw(String(COUNTER_SHARDS));
const nodeId = sql`(select id from store_hashes where hash = ${value('hash')})`;

/** The NARs at their generations that were given, in that state, locked; `given` is a table with `key` and `generation`. */
const given = sql`given as materialized (
    select item ->> 0 as key, (item ->> 1)::bigint as generation
      from jsonb_array_elements(${value('nars')}::text::jsonb) as item
  )`;
const locked = sql`locked as materialized (
    select nars.id, nars.file_size from given join nars on nars.key = given.key
      where nars.generation = given.generation and nars.state = 'evicting'
      order by nars.id for no key update of nars
  )`;

/** Those that were changed, and those given that an attempt before has changed to that state already. */
const changedTo = (state: SQL): SQL => sql`
  select key from changed
    union select nars.key from given join nars on nars.key = given.key
      where nars.generation = given.generation and nars.state = ${state}`;

const markEvicting: Compiled<'seen' | 'now' | 'regardless'> = compile(sql`
  with seen as materialized (
    select item ->> 0 as key, (item ->> 1)::bigint as generation, (item ->> 2)::bigint as last_access
      from jsonb_array_elements(${value('seen')}::text::jsonb) as item
  ),
  locked as materialized (
    select nars.id from seen join nars on nars.key = seen.key
      where nars.generation = seen.generation and nars.last_access = seen.last_access and nars.state = 'present'
      order by nars.id for no key update of nars
  ),
  changed as (
    update nars set state = 'evicting' from locked
      where nars.id = locked.id and (${whole('regardless')} = 1 or not (${isPinned} or ${isReferred}))
      returning nars.id, nars.key, nars.generation, nars.file_size
  ),
  evicting as (
    select * from changed
      union select nars.id, nars.key, nars.generation, nars.file_size from seen join nars on nars.key = seen.key
        where nars.generation = seen.generation and nars.state = 'evicting'
  )
  select evicting.id as nar_id, evicting.key, evicting.generation, evicting.file_size, store_hashes.hash
    from evicting
    left join paths on paths.nar_id = evicting.id
    left join store_hashes on store_hashes.id = paths.node_id
    order by evicting.id`);

const spareEvicting: Compiled<'nars' | 'now'> = compile(sql`
  with ${given}, ${locked},
  changed as (
    update nars set state = 'present' from locked
      where nars.id = locked.id and (${isPinned} or ${isReferred}) returning nars.key
  )
  ${changedTo(sql`'present'`)}`);

const finishEvicting: Compiled<'nars'> = compile(sql`
  with ${given}, ${locked},
  gone as (
    select id % ${shards} as shard, sum(coalesce(file_size, 0))::bigint as bytes, count(*) as nars
      from locked group by 1
  ),
  counters as materialized (
    select size_counters.shard from size_counters where shard in (select shard from gone)
      order by shard for no key update
  ),
  counted as (
    update size_counters set present_bytes = present_bytes - gone.bytes, present_nars = present_nars - gone.nars
      from gone join counters on counters.shard = gone.shard where size_counters.shard = gone.shard
  ),
  changed as (
    update nars set state = 'absent' from locked where nars.id = locked.id returning nars.key
  )
  ${changedTo(sql`'absent'`)}`);

const updateObtainable: Compiled<'key' | 'sourceUpstream' | 'sourceUrl'> = compile(sql`
  update nars set pushed = 0, source_upstream = coalesce(source_upstream, ${value('sourceUpstream')}),
      source_url = coalesce(source_url, ${value('sourceUrl')})
    where key = ${value('key')}`);

const insertNode: Compiled<'hash'> = compile(sql`
  insert into store_hashes (hash) values (${value('hash')}) on conflict (hash) do nothing`);

const closureOf = (pins: SQL): SQL => sql`closure(id) as (
    select node_id from ${pins}
    union
    select edge.reference from closure join reference_edges as edge on edge.referrer = closure.id
  )`;

/** Gives a row, but where the root's node vanished. */
const putPin: Compiled<'name' | 'hash' | 'storePath' | 'createdAt' | 'expiresAt'> = compile(sql`
  with recursive pin as (
    insert into pins (name, node_id, store_path, created_at, expires_at)
      select ${value('name')}, node.id, ${value('storePath')}, ${whole('createdAt')}, ${whole('expiresAt')}
        from store_hashes as node where node.hash = ${value('hash')}
      on conflict (name) do update set node_id = excluded.node_id, store_path = excluded.store_path,
        created_at = excluded.created_at, expires_at = excluded.expires_at
      returning id, node_id
  ),
  ${closureOf(sql`pin`)},
  gone as (
    delete from pinned_paths using pin
      where pinned_paths.pin_id = pin.id and pinned_paths.node_id not in (select id from closure)
  ),
  made as (
    insert into pinned_paths (pin_id, node_id) select pin.id, closure.id from pin cross join closure
      on conflict do nothing
  )
  select id from pin`);

const extendPin: Compiled<'name'> = compile(sql`
  with recursive pin as (select id, node_id from pins where name = ${value('name')}), ${closureOf(sql`pin`)}
  insert into pinned_paths (pin_id, node_id) select pin.id, closure.id from pin cross join closure
    on conflict do nothing`);

const deletePin: Compiled<'name'> = compile(sql`
  with pin as materialized (select id from pins where name = ${value('name')} for update),
  gone as (delete from pinned_paths using pin where pinned_paths.pin_id = pin.id)
  delete from pins using pin where pins.id = pin.id returning pins.id`);

const removePath: Compiled<'hash'> = compile(sql`
  with gone as (delete from reference_edges where referrer = ${nodeId})
  delete from paths where node_id = ${nodeId} returning id`);

const banPath: Compiled<'hash' | 'storePath' | 'reason' | 'at' | 'quarantine'> = compile(sql`
  with ban as (
    insert into bans (hash, store_path, reason, banned_at)
      values (${value('hash')}, ${value('storePath')}, ${value('reason')}, ${whole('at')})
      on conflict (hash) do nothing
  ),
  nar as materialized (
    select id, state, file_size from nars
      where state <> 'quarantined' and id = (select nar_id from paths where node_id = ${nodeId})
        and not exists (select 1 from paths where paths.nar_id = nars.id and paths.node_id <> ${nodeId})
      for no key update
  ),
  counted as (
    update size_counters set present_bytes = present_bytes - coalesce(nar.file_size, 0),
        present_nars = present_nars - 1
      from nar where nar.state ${isStored} and shard = nar.id % ${shards}
  ),
  quarantined as (
    update nars set state = 'quarantined', quarantine_reason = ${value('quarantine')},
        generation = nars.generation + 1
      from nar where nars.id = nar.id
  ),
  gone as (delete from reference_edges where referrer = ${nodeId})
  delete from paths where node_id = ${nodeId}`);

const unbanPath: Compiled<'hash' | 'quarantine'> = compile(sql`
  with lifted as (
    update nars set state = 'absent', quarantine_reason = null
      where state = 'quarantined' and quarantine_reason = ${value('quarantine')}
  )
  delete from bans where hash = ${value('hash')} returning hash`);

const selectMark: Compiled<'name'> = compile(sql`select value from meta where key = ${value('name')}`);
const upsertMark: Compiled<'name' | 'value'> = compile(sql`
  insert into meta (key, value) values (${value('name')}, ${value('value')})
    on conflict (key) do update set value = excluded.value`);
const deleteMark: Compiled<'name'> = compile(sql`delete from meta where key = ${value('name')}`);

/** By how much the counters are wrong in one snapshot of both: what changes meanwhile changes both. */
const repairTotals: Compiled = compile(sql`
  update size_counters set present_bytes = size_counters.present_bytes + wrong.bytes,
      present_nars = size_counters.present_nars + wrong.nars
    from (
      select counter.shard, (coalesce(sum(nars.file_size), 0) - counter.present_bytes)::bigint as bytes,
          count(nars.id) - counter.present_nars as nars
        from size_counters as counter
        left join nars on nars.id % ${shards} = counter.shard and nars.state ${isStored}
        group by counter.shard, counter.present_bytes, counter.present_nars
    ) as wrong where size_counters.shard = wrong.shard and (wrong.bytes <> 0 or wrong.nars <> 0)`);

const listedIds = sql`(select item::bigint from jsonb_array_elements_text(${value('ids')}::text::jsonb) as item)`;

const prunePaths: Compiled<'ids' | 'unusedSince'> = compile(sql`
  with prunable as materialized (
    select paths.id, paths.node_id from paths join nars on nars.id = paths.nar_id
      where paths.id in ${listedIds} and ${isPrunable}
      order by nars.id for no key update of nars
  ),
  gone as (delete from reference_edges using prunable where referrer = prunable.node_id)
  delete from paths using prunable where paths.id = prunable.id returning paths.id`);

const deleteOrphanNars: Compiled<'ids'> = compile(
  sql`delete from nars where id in ${listedIds} and ${isOrphanNar} returning id`,
);
const deleteOrphanNodes: Compiled<'ids'> = compile(
  sql`delete from store_hashes where id in ${listedIds} and ${isOrphanNode} returning id`,
);

/** The upkeep on PostgreSQL; it is closed with the executor. */
export function postgresUpkeep({ execute }: Pick<PostgresExecutor, 'execute'>): UpkeepQueries {
  return {
    listEvictable: (values) => execute(reads.selectEvictable(values)),
    markEvicting: (values) => execute(markEvicting(values)),
    spareEvicting: (values) => execute(spareEvicting(values)),
    finishEvicting: (values) => execute(finishEvicting(values)),
    listEvicting: (values) => execute(reads.selectEvicting(values)),
    markObtainable: (values) => execute(updateObtainable(values)),
    async putPin(values) {
      await execute(insertNode(values));
      const pinned = await execute(putPin(values));
      if (pinned.length === 0) throw new Error('its root was forgotten in this very moment');
      return pinned;
    },
    deletePin: (values) => execute(deletePin(values)),
    listPins: () => execute(reads.selectPins({})),
    extendPin: (values) => execute(extendPin(values)),
    pinnedTotals: (values) => execute(reads.selectPinnedTotals(values)),
    getKeeper: (values) => execute(reads.selectKeeper(values)),
    removePath: (values) => execute(removePath(values)),
    banPath: (values) => execute(banPath(values)),
    unbanPath: (values) => execute(unbanPath(values)),
    listBans: () => execute(reads.selectBans({})),
    getMark: (values) => execute(selectMark(values)),
    setMark: (values) => execute(upsertMark(values)),
    removeMark: (values) => execute(deleteMark(values)),
    listNars: (values) => execute(reads.selectNars(values)),
    findNars: (values) => execute(reads.selectNarsByKey(values)),
    findPaths: (values) => execute(reads.selectPathsByHash(values)),
    listDangling: (values) => execute(reads.selectDangling(values)),
    sumTotals: () => execute(reads.selectSums({})),
    repairTotals: () => execute(repairTotals({})),
    totals: () => execute(indexReads.selectTotals({})),
    countPaths: () => execute(reads.selectPathCount({})),
    listPrunable: (values) => execute(reads.selectPrunable(values)),
    prunePaths: (values) => execute(prunePaths(values)),
    listOrphanNars: (values) => execute(reads.selectOrphanNars(values)),
    listOrphanNodes: (values) => execute(reads.selectOrphanNodes(values)),
    pruneOrphanNars: (values) => execute(deleteOrphanNars(values)),
    pruneOrphanNodes: (values) => execute(deleteOrphanNodes(values)),
  };
}
