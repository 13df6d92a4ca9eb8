import { sql } from 'drizzle-orm';
import { PgDialect } from 'drizzle-orm/pg-core';
import { type Compiled, compilerOf, value } from '../compile.ts';
import { APPLIED } from '../migrations.ts';
import { rankOf } from '../rank.ts';
import { type IndexReads, indexReads, narColumnsOf, pathColumnsOf } from '../reads.ts';
import type { NarValues, PathValues } from '../rows.ts';
import { COUNTER_SHARDS } from '../tables.ts';
import * as tables from './schema.ts';

/**
 * Every operation is one statement, and so one round trip and one transaction, in READ COMMITTED and behind any pooler
 * of connections. Two things follow from how PostgreSQL runs a statement:
 *
 * - All its parts see one snapshot, and not what each other part writes: what is inserted is passed on by `returning`.
 *   A row that another transaction committed in the meantime makes `on conflict do nothing` insert nothing, and is
 *   not in the snapshot either. The path is then left alone and no row is answered, while nodes and NAR stay: the
 *   next run sees all of them (`IndexQueries.recordPath`).
 * - A row that is locked (`for update`) is read as it is now, not as in the snapshot. So a change begins with locking
 *   its NAR or path, and the counters take their sums from what was locked: NAR first, then counter, everywhere.
 */
const compile = compilerOf(new PgDialect());

export const reads: IndexReads = indexReads(tables, {
  compile,
  listed: sql`jsonb_array_elements_text(${value('hashes')}::text::jsonb) as listed(value)`,
  sum: (column) => sql`coalesce(sum(${column}), 0)::bigint`,
});

const whole = (name: string) => sql`${value(name)}::bigint`;
const text = (name: string) => sql`${value(name)}::text`;

/** Nodes and NAR, each made if it is not there. Rows are locked in the order of their hashes. */
const needed = sql`
  needed as materialized (
    select each.hash, (select known.id from store_hashes as known where known.hash = each.hash) as id
      from (select distinct value as hash from jsonb_array_elements_text(${value('nodes')}::text::jsonb)) as each
  ),
  made_nodes as (
    insert into store_hashes (hash) select hash from needed where id is null order by hash
      on conflict (hash) do nothing returning id, hash
  ),
  nodes as materialized (
    select id, hash from made_nodes union all select id, hash from needed where id is not null
  ),
  made_nar as (
    insert into nars (key, compression, file_hash, file_size, source_upstream, source_url, pushed)
      select ${text('key')}, ${text('compression')}, ${text('fileHash')}, ${whole('fileSize')},
          ${text('sourceUpstream')}, ${text('sourceUrl')}, ${whole('pushed')}
        where not exists (select 1 from nars where nars.key = ${value('key')})
      on conflict (key) do nothing returning *
  ),
  nar as (
    select id from made_nar union all select id from nars where nars.key = ${value('key')}
  ),
  node as (
    select own.id as node_id, nar.id as nar_id from nodes as own cross join nar
      where own.hash = ${value('hash')} and (select count(*) from nodes) = (select count(*) from needed)
  )`;

const facts = sql`${text('storePath')}, ${text('narHash')}, ${whole('narSize')}, ${text('references')},
  ${text('deriver')}, ${text('ca')}, ${text('signatures')}, ${text('extra')}, ${text('justification')},
  ${text('justifiedBy')}, ${text('origin')}, ${whole('recordedAt')}`;
const factColumns = sql`store_path, nar_hash, nar_size, "references", deriver, ca, signatures, extra, justification,
  justified_by, origin, recorded_at`;

/** The path if it is not there; nothing where it is banned, or where node or NAR could not be seen. */
const madePath = sql`
  made_path as (
    insert into paths (node_id, nar_id, ${factColumns})
      select node.node_id, node.nar_id, ${facts} from node
        where not exists (select 1 from paths as known where known.node_id = node.node_id)
          and not exists (select 1 from bans where bans.hash = ${value('hash')})
      on conflict (node_id) do nothing returning *
  )`;

/** Edges of the path that was written to all nodes but its own. */
const madeEdges = sql`
  made_edges as (
    insert into reference_edges (referrer, reference)
      select written.node_id, nodes.id from written cross join nodes
        where nodes.id <> written.node_id order by nodes.id
      on conflict do nothing
  )`;

/** The columns of `stored` and of its NAR. */
const answer = sql`
  select ${pathColumnsOf(tables.paths, sql`${value('hash')}::text`)}, ${narColumnsOf(tables.nars)}
    from stored as paths
    join lateral (
      select * from made_nar where made_nar.id = paths.nar_id
      union all select * from nars as known where known.id = paths.nar_id
    ) as nars on true`;

type RecordValue = keyof PathValues | keyof NarValues | 'nodes';

export const recordPath: Compiled<RecordValue> = compile(sql`
  with ${needed}, ${madePath}, written as (select * from made_path), ${madeEdges},
  stored as (
    select * from made_path
    union all select known.* from paths as known join store_hashes as own on own.id = known.node_id
      where own.hash = ${value('hash')}
  ) ${answer}`);

/** Where the path was at the revision and yet not changed, something was not to be seen: no row then. */
export const replacePath: Compiled<RecordValue | 'atRevision'> = compile(sql`
  with ${needed},
  locked as materialized (
    select * from paths where node_id = (select id from store_hashes where hash = ${value('hash')}) for update
  ),
  changed as (
    update paths set (nar_id, revision, ${factColumns}) = row (node.nar_id, paths.revision + 1, ${facts})
      from locked, node where paths.id = locked.id and locked.revision = ${whole('atRevision')}
      returning paths.*
  ),
  ${madePath},
  written as (select * from changed union all select * from made_path),
  gone_edges as (
    delete from reference_edges using changed
      where referrer = changed.node_id and reference not in (select id from nodes where id <> changed.node_id)
  ),
  ${madeEdges},
  stored as (
    select * from written union all select * from locked where revision <> ${whole('atRevision')}
  ) ${answer}`);

/** Gives a row if the path was at the revision. */
export const updateJustification: Compiled<
  'hash' | 'atRevision' | 'signatures' | 'justification' | 'justifiedBy'
> = compile(sql`
  update paths set signatures = ${value('signatures')}, justification = ${value('justification')},
      justified_by = ${value('justifiedBy')}, revision = revision + 1
    where node_id = (select id from store_hashes where hash = ${value('hash')})
      and revision = ${value('atRevision')}
    returning id`);

const isStored = sql`state in ('present', 'evicting')`;
const shard = sql`(nar.id % ${sql.raw(String(COUNTER_SHARDS))})`;
/** What the NAR that was locked counts for until now. */
const countedBytes = sql`case when nar.${isStored} then coalesce(nar.file_size, 0) else 0 end`;
const countedNars = sql`case when nar.${isStored} then 1 else 0 end`;

const latestAccess = sql`greatest(nars.last_access, ${whole('at')})`;
const accessesWithThis = sql`(nars.accesses
    + case when ${whole('at')} > nars.last_access + ${whole('interval')} then 1 else 0 end)`;

/** Gives the new generation; no row for a NAR that is unknown or quarantined. */
export const updatePresent: Compiled<'key' | 'fileHash' | 'fileSize' | 'verification' | 'at' | 'interval'> =
  compile(sql`
  with nar as materialized (
    select id, state, file_size from nars where key = ${value('key')} and state <> 'quarantined'
      for no key update
  ),
  counted as (
    update size_counters set present_bytes = present_bytes + ${whole('fileSize')} - ${countedBytes},
        present_nars = present_nars + 1 - ${countedNars}
      from nar where shard = ${shard}
  )
  update nars set file_hash = ${value('fileHash')}, file_size = ${whole('fileSize')},
      verification = ${value('verification')}, state = 'present', generation = nars.generation + 1,
      last_access = ${latestAccess}, accesses = ${accessesWithThis},
      evict_rank = ${rankOf(latestAccess, accessesWithThis, whole('fileSize'))}
    from nar where nars.id = nar.id returning nars.generation`);

const countOut = sql`
  counted as (
    update size_counters set present_bytes = present_bytes - ${countedBytes},
        present_nars = present_nars - ${countedNars}
      from nar where shard = ${shard}
  )`;

/** Gives a row if the change was made. */
export const updateAbsent: Compiled<'key' | 'generation'> = compile(sql`
  with nar as materialized (
    select id, state, file_size from nars
      where key = ${value('key')} and generation = ${value('generation')} and ${isStored}
      for no key update
  ), ${countOut}
  update nars set state = 'absent' from nar where nars.id = nar.id returning nars.id`);

export const updateQuarantined: Compiled<'key' | 'reason'> = compile(sql`
  with nar as materialized (
    select id, state, file_size from nars where key = ${value('key')} and state <> 'quarantined'
      for no key update
  ), ${countOut}
  update nars set state = 'quarantined', quarantine_reason = ${value('reason')}, generation = nars.generation + 1
    from nar where nars.id = nar.id`);

/** Gives a row if it was recorded. */
export const updateVerified: Compiled<'key' | 'generation'> = compile(sql`
  update nars set verification = 'nar'
    where key = ${value('key')} and generation = ${value('generation')} and ${isStored} returning id`);

/** Accesses as a JSON array of pairs of key and milliseconds; rows are locked in the order of their ids. */
export const updateAccesses: Compiled<'accesses' | 'interval'> = compile(sql`
  with accesses as (
    select access ->> 0 as key, max((access ->> 1)::bigint) as at
      from jsonb_array_elements(${value('accesses')}::text::jsonb) as access group by 1
  ),
  due as materialized (
    select nars.id, accesses.at from accesses join nars on nars.key = accesses.key
      where accesses.at > nars.last_access + ${whole('interval')}
      order by nars.id for no key update of nars
  )
  update nars set last_access = due.at, accesses = nars.accesses + 1,
      evict_rank = ${rankOf(sql`due.at`, sql`(nars.accesses + 1)`, sql`coalesce(nars.file_size, 0)`)}
    from due where nars.id = due.id`);

/** Milliseconds since the epoch by the clock of the database. */
const now = sql`(extract(epoch from clock_timestamp()) * 1000)::bigint`;

/** Gives a row if the lease is the token's. */
export const takeLease: Compiled<'name' | 'token' | 'leaseMs'> = compile(sql`
  insert into leases (name, token, ends_at)
    values (${value('name')}, ${value('token')}, ${now} + ${whole('leaseMs')})
    on conflict (name) do update set token = excluded.token, ends_at = excluded.ends_at
      where leases.token = excluded.token or leases.ends_at <= ${now}
    returning name`);

/** Gives a row if it was the token's. */
export const extendLease: Compiled<'name' | 'token' | 'leaseMs'> = compile(sql`
  update leases set ends_at = ${now} + ${whole('leaseMs')}
    where name = ${value('name')} and token = ${value('token')} and ends_at > ${now} returning name`);

export const releaseLease: Compiled<'name' | 'token'> = compile(
  sql`delete from leases where name = ${value('name')} and token = ${value('token')}`,
);

export const removeEndedLeases: Compiled<'olderThanMs'> = compile(
  sql`delete from leases where ends_at < ${now} - ${whole('olderThanMs')}`,
);

/** One name: a look at the table, however large. */
export const selectNoLease: Compiled = compile(sql`select name from leases where name = ''`);

/** What was applied to the schema, oldest first. */
export const selectApplied: Compiled = compile(
  sql`select hash from ${sql.identifier(APPLIED)} order by created_at`,
);
