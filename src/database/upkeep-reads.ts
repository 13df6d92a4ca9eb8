import { type SQL, sql } from 'drizzle-orm';
import { type Compile, type Compiled, value } from './compile.ts';
import { type IndexTables, narColumnsOf, pathColumnsOf } from './reads.ts';

/** What the dialects say differently. */
export interface UpkeepDialect {
  readonly compile: Compile;
  /** The JSON array of strings under that name as a table `listed` with one column `value`. */
  listed(name: string): SQL;
  /** An integer expression as an integer that the driver gives as a number, whatever sums make of it. */
  whole(expression: SQL): SQL;
}

/** The statements that read for upkeep; `UpkeepQueries` says what their rows hold. */
export interface UpkeepReads {
  readonly selectEvictable: Compiled<'pushed' | 'afterRank' | 'afterId' | 'accessedBefore' | 'now' | 'limit'>;
  readonly selectEvicting: Compiled<'after' | 'limit'>;
  readonly selectPins: Compiled;
  readonly selectPinnedTotals: Compiled<'now'>;
  readonly selectKeeper: Compiled<'hash' | 'now'>;
  readonly selectBans: Compiled;
  readonly selectBan: Compiled<'hash'>;
  readonly selectNars: Compiled<'after' | 'limit'>;
  readonly selectNarsByKey: Compiled<'keys'>;
  readonly selectPathsByHash: Compiled<'hashes'>;
  readonly selectDangling: Compiled<'after' | 'limit'>;
  readonly selectSums: Compiled;
  readonly selectPathCount: Compiled;
  readonly selectPrunable: Compiled<'after' | 'limit' | 'unusedSince'>;
  readonly selectOrphanNars: Compiled<'after' | 'limit'>;
  readonly selectOrphanNodes: Compiled<'after' | 'limit'>;
}

const isStored = sql.raw(`in ('present', 'evicting')`);

/** Whether a pin that has not expired keeps a NAR of the statement. */
export const isPinned: SQL = sql`exists (
    select 1 from paths as claiming
      join pinned_paths as kept on kept.node_id = claiming.node_id
      join pins as pin on pin.id = kept.pin_id
      where claiming.nar_id = nars.id and (pin.expires_at is null or pin.expires_at > ${value('now')})
  )`;

/** Whether another retained pushed path refers to a pushed NAR of the statement. */
export const isReferred: SQL = sql`(nars.pushed = 1 and exists (
    select 1 from paths as claiming
      join reference_edges as edge on edge.reference = claiming.node_id
      join paths as referring on referring.node_id = edge.referrer
      join nars as retained on retained.id = referring.nar_id
      where claiming.nar_id = nars.id and retained.id <> nars.id
        and retained.pushed = 1 and retained.state ${isStored}
  ))`;

/** Whether a path of the statement, with its NAR, may be forgotten. */
export const isPrunable: SQL = sql`(nars.state in ('known', 'absent')
  and nars.last_access < ${value('unusedSince')} and paths.recorded_at < ${value('unusedSince')}
  and not exists (select 1 from pinned_paths as kept where kept.node_id = paths.node_id))`;

/** Whether a NAR of the statement is one that nobody names any more. */
export const isOrphanNar: SQL = sql`(nars.state in ('known', 'absent')
  and not exists (select 1 from paths where paths.nar_id = nars.id))`;

/** Whether a node of the statement is one that nobody names any more. */
export const isOrphanNode: SQL = sql`(
  not exists (select 1 from paths where paths.node_id = store_hashes.id)
    and not exists (select 1 from reference_edges as edge where edge.referrer = store_hashes.id)
    and not exists (select 1 from reference_edges as edge where edge.reference = store_hashes.id)
    and not exists (select 1 from pinned_paths as kept where kept.node_id = store_hashes.id)
    and not exists (select 1 from pins where pins.node_id = store_hashes.id))`;

export function upkeepReads(
  { nars, paths, storeHashes }: Pick<IndexTables, 'nars' | 'paths' | 'storeHashes'>,
  { compile, listed, whole }: UpkeepDialect,
): UpkeepReads {
  const narColumns = narColumnsOf(nars);
  const flag = (condition: SQL): SQL => sql`case when ${condition} then 1 else 0 end`;
  const sums = (rows: SQL): SQL =>
    sql`select ${whole(sql`coalesce(sum(nars.file_size), 0)`)} as present_bytes,
      ${whole(sql`count(*)`)} as present_nars ${rows}`;
  return {
    selectEvictable: compile(
      sql`select ${narColumns}, nars.accesses as accesses, nars.evict_rank as evict_rank,
          ${flag(isPinned)} as is_pinned, ${flag(isReferred)} as is_referred
        from nars
        where nars.state = 'present' and nars.pushed = ${value('pushed')}
          and nars.evict_rank >= ${value('afterRank')}
          and (nars.evict_rank > ${value('afterRank')} or nars.id > ${value('afterId')})
          and nars.last_access < ${value('accessedBefore')}
        order by nars.evict_rank, nars.id limit ${value('limit')}`,
    ),
    selectEvicting: compile(
      sql`select evicting.nar_id as nar_id, evicting.nar_key as ${sql.identifier('key')},
          evicting.generation as generation, evicting.file_size as file_size, store_hashes.hash as hash
        from (
          select nars.id as nar_id, ${nars.key} as nar_key, nars.generation as generation,
              nars.file_size as file_size
            from nars where nars.state = 'evicting' and nars.id > ${value('after')}
            order by nars.id limit ${value('limit')}
        ) as evicting
        left join paths on paths.nar_id = evicting.nar_id
        left join store_hashes on store_hashes.id = paths.node_id
        order by evicting.nar_id`,
    ),
    selectPins: compile(
      sql`select pins.name as name, pins.store_path as store_path, root.hash as hash,
          pins.created_at as created_at, pins.expires_at as expires_at,
          ${whole(sql`count(*)`)} as paths,
          ${whole(sql`sum(case when paths.id is null then 1 else 0 end)`)} as unknown_paths,
          ${whole(sql`sum(case when nars.id is not null and nars.state <> 'present' then 1 else 0 end)`)}
            as absent_paths,
          ${whole(sql`(
            select coalesce(sum(stored.file_size), 0) from nars as stored
              where stored.state = 'present' and stored.id in (
                select claiming.nar_id from pinned_paths as kept
                  join paths as claiming on claiming.node_id = kept.node_id
                  where kept.pin_id = pins.id
              )
          )`)} as present_bytes
        from pins
        join store_hashes as root on root.id = pins.node_id
        join pinned_paths on pinned_paths.pin_id = pins.id
        left join paths on paths.node_id = pinned_paths.node_id
        left join nars on nars.id = paths.nar_id
        group by pins.id, pins.name, pins.store_path, root.hash, pins.created_at, pins.expires_at
        order by pins.name`,
    ),
    selectPinnedTotals: compile(
      sums(sql`from nars where nars.state = 'present' and nars.id in (
        select claiming.nar_id from pins as pin
          join pinned_paths as kept on kept.pin_id = pin.id
          join paths as claiming on claiming.node_id = kept.node_id
          where pin.expires_at is null or pin.expires_at > ${value('now')}
      )`),
    ),
    selectKeeper: compile(
      sql`select ${flag(sql`exists (
            select 1 from pinned_paths as kept join pins as pin on pin.id = kept.pin_id
              where kept.node_id = own.id and (pin.expires_at is null or pin.expires_at > ${value('now')})
          )`)} as is_pinned,
          ${flag(sql`exists (
            select 1 from paths join nars on nars.id = paths.nar_id where paths.node_id = own.id and nars.pushed = 1
          ) and exists (
            select 1 from reference_edges as edge
              join paths as referring on referring.node_id = edge.referrer
              join nars as retained on retained.id = referring.nar_id
              where edge.reference = own.id and retained.pushed = 1 and retained.state ${isStored}
          )`)} as is_referred
        from store_hashes as own where own.hash = ${value('hash')}`,
    ),
    selectBans: compile(
      sql`select hash as hash, store_path as store_path, reason as reason, banned_at as banned_at
        from bans order by hash`,
    ),
    selectBan: compile(sql`select hash as hash from bans where hash = ${value('hash')}`),
    selectNars: compile(
      sql`select ${narColumns} from nars where nars.id > ${value('after')}
        order by nars.id limit ${value('limit')}`,
    ),
    selectNarsByKey: compile(
      sql`select ${narColumns} from nars where ${nars.key} in (select listed.value from ${listed('keys')})`,
    ),
    selectPathsByHash: compile(
      sql`select ${pathColumnsOf(paths, sql`${storeHashes.hash}`)}, ${narColumns} from ${storeHashes}
        inner join ${paths} on ${paths.nodeId} = ${storeHashes.id}
        inner join ${nars} on ${nars.id} = ${paths.narId}
        where ${storeHashes.hash} in (select listed.value from ${listed('hashes')})`,
    ),
    selectDangling: compile(
      // The paths come by id, one after the other, until the page is full: `cross join` keeps SQLite from reading all
      // pushed NARs first, and a group by the id alone needs no sort.
      sql`select paths.id as id, min(own.hash) as hash, min(paths.store_path) as store_path,
          min(referred.hash) as missing, ${whole(sql`count(*)`)} as missing_count
        from paths cross join nars
        join store_hashes as own on own.id = paths.node_id
        join reference_edges as edge on edge.referrer = paths.node_id
        join store_hashes as referred on referred.id = edge.reference
        left join paths as target on target.node_id = edge.reference
        left join nars as body on body.id = target.nar_id
        where paths.id > ${value('after')} and nars.id = paths.nar_id and nars.pushed = 1
          and nars.state = 'present' and (body.id is null or (body.pushed = 1 and body.state not ${isStored}))
        group by paths.id order by paths.id limit ${value('limit')}`,
    ),
    selectSums: compile(sums(sql`from nars where nars.state ${isStored}`)),
    selectPathCount: compile(sql`select ${whole(sql`count(*)`)} as count from paths`),
    selectPrunable: compile(
      sql`select paths.id as id, ${flag(isPrunable)} as prunable from paths
        join nars on nars.id = paths.nar_id
        where paths.id > ${value('after')} order by paths.id limit ${value('limit')}`,
    ),
    selectOrphanNars: compile(
      sql`select nars.id as id, ${flag(isOrphanNar)} as prunable from nars
        where nars.id > ${value('after')} order by nars.id limit ${value('limit')}`,
    ),
    selectOrphanNodes: compile(
      sql`select store_hashes.id as id, ${flag(isOrphanNode)} as prunable from store_hashes
        where store_hashes.id > ${value('after')} order by store_hashes.id limit ${value('limit')}`,
    ),
  };
}
