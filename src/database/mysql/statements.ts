import { sql } from 'drizzle-orm';
import { type Compiled, value } from '../compile.ts';
import { APPLIED } from '../migrations.ts';
import { rankOf } from '../rank.ts';
import { type IndexReads, indexReads, narColumnsOf } from '../reads.ts';
import type { NarValues, PathValues } from '../rows.ts';
import { COUNTER_SHARDS } from '../tables.ts';
import { compile, listed } from './compile.ts';
import * as tables from './schema.ts';

/**
 * Statements that MySQL 8 and MariaDB from 10.6 on both understand. They have no `returning` in common, so that an
 * operation which writes and answers is several statements in one transaction. It is in READ COMMITTED: each
 * statement sees what others have committed before it. A change begins with locking its NAR; nodes are inserted
 * in the order of their hashes: NAR first, then counter; nodes first, then NAR, then path.
 *
 * `insert ignore` would also ignore values that do not fit: an update that changes nothing stands in its place.
 */
const narPage = sql`select ${narColumnsOf(tables.nars)} from nars`;
const afterId = sql`nars.id > ${value('after')} order by nars.id limit ${value('limit')}`;

export const reads: IndexReads = {
  ...indexReads(tables, {
    compile,
    listed: listed('hashes'),
    sum: (column) => sql`cast(coalesce(sum(${column}), 0) as signed)`,
  }),
  // There are no partial indexes: each half is in the order of `nars_unverified`.
  selectUnverified: compile(sql`
    (${narPage} where nars.state = 'present' and nars.verification = 'none' and ${afterId})
    union all (${narPage} where nars.state = 'present' and nars.verification = 'file' and ${afterId})
    order by nar_id limit ${value('limit')}`),
};

export const insertNar: Compiled<keyof NarValues> = compile(sql`
  insert into nars (\`key\`, compression, file_hash, file_size, source_upstream, source_url, pushed)
    values (${value('key')}, ${value('compression')}, ${value('fileHash')}, ${value('fileSize')},
      ${value('sourceUpstream')}, ${value('sourceUrl')}, ${value('pushed')})
    on duplicate key update id = id`);

/** Graph nodes for those of a JSON array of hashes that have none yet; the others are not locked. */
export const insertNodes: Compiled<'nodes'> = compile(sql`
  insert into store_hashes (hash)
    select listed.value from ${listed('nodes')}
      left join store_hashes as known on known.hash = listed.value
      where known.id is null order by listed.value
    on duplicate key update store_hashes.id = store_hashes.id`);

type PathValue = keyof PathValues | 'key';

const nodeId = sql`(select store_hashes.id from store_hashes where store_hashes.hash = ${value('hash')})`;
const narId = sql`(select nars.id from nars where nars.\`key\` = ${value('key')})`;

/** The path's node and its NAR must be there. Not `insert … select`: that locks the numbering of the whole table. */
export const insertPath: Compiled<PathValue> = compile(sql`
  insert into paths (node_id, nar_id, store_path, nar_hash, nar_size, \`references\`, deriver, ca, signatures, extra,
      justification, justified_by, origin, recorded_at)
    values (${nodeId}, ${narId}, ${value('storePath')}, ${value('narHash')}, ${value('narSize')},
      ${value('references')}, ${value('deriver')}, ${value('ca')}, ${value('signatures')}, ${value('extra')},
      ${value('justification')}, ${value('justifiedBy')}, ${value('origin')}, ${value('recordedAt')})
    on duplicate key update id = id`);

/** After an insertion in the same transaction. */
export const deleteBannedPath: Compiled<'hash'> = compile(sql`
  delete from paths where node_id = ${nodeId}
    and exists (select 1 from bans where bans.hash = ${value('hash')})`);

const isAtRevision = sql`node_id = ${nodeId} and revision = ${value('atRevision')}`;

/** The path's NAR must be there. */
export const updatePath: Compiled<PathValue | 'atRevision'> = compile(sql`
  update paths set nar_id = ${narId}, store_path = ${value('storePath')}, nar_hash = ${value('narHash')},
      nar_size = ${value('narSize')}, \`references\` = ${value('references')}, deriver = ${value('deriver')},
      ca = ${value('ca')}, signatures = ${value('signatures')}, extra = ${value('extra')},
      justification = ${value('justification')}, justified_by = ${value('justifiedBy')},
      origin = ${value('origin')}, recorded_at = ${value('recordedAt')}, revision = revision + 1
    where ${isAtRevision}`);

/** Finds a row if the path was at the revision. */
export const updateJustification: Compiled<
  'hash' | 'atRevision' | 'signatures' | 'justification' | 'justifiedBy'
> = compile(sql`
  update paths set signatures = ${value('signatures')}, justification = ${value('justification')},
      justified_by = ${value('justifiedBy')}, revision = revision + 1
    where ${isAtRevision}`);

// Edges follow the stored path, which may be another's record: they change only where its references are these.
const areStored = sql`(select paths.\`references\` from paths where paths.node_id = ${nodeId}) = ${value('references')}`;

export const deleteEdges: Compiled<'hash' | 'references'> = compile(
  sql`delete from reference_edges where referrer = ${nodeId} and ${areStored}`,
);

/** Edges to those of a JSON array of hashes; their nodes must be there. */
export const insertEdges: Compiled<'hash' | 'hashes' | 'references'> = compile(sql`
  insert into reference_edges (referrer, reference)
    select ${nodeId}, referred.id from ${listed('hashes')}
      join store_hashes as referred on referred.hash = listed.value
      where ${areStored} order by referred.id
    on duplicate key update referrer = reference_edges.referrer`);

const isKey = sql`nars.\`key\` = ${value('key')}`;
const isStored = sql`nars.state in ('present', 'evicting')`;
const isNotQuarantined = sql`nars.state <> 'quarantined'`;
const isGeneration = sql`nars.generation = ${value('generation')}`;

/** Before a change of the NAR in the same transaction: nobody else changes it until the end. */
export const lockNar: Compiled<'key'> = compile(sql`select nars.id from nars where ${isKey} for update`);

/**
 * The counter of the NAR that meets the condition; none where there is no such NAR. It goes before the change of its
 * NAR, and reads what that NAR counts until then.
 */
function isCounterOf(nar: ReturnType<typeof sql>) {
  const shards = sql.raw(String(COUNTER_SHARDS));
  return sql`shard = (select nars.id % ${shards} from nars where ${nar})`;
}

function countOut(nar: ReturnType<typeof sql>) {
  return sql`update size_counters set
      present_bytes = present_bytes - (select coalesce(nars.file_size, 0) from nars where ${nar}),
      present_nars = present_nars - 1
    where ${isCounterOf(nar)}`;
}

export const countPresent: Compiled<'key' | 'fileSize'> = compile(sql`
  update size_counters set
      present_bytes = present_bytes + ${value('fileSize')}
        - coalesce((select nars.file_size from nars where ${isKey} and ${isStored}), 0),
      present_nars = present_nars + 1 - (select count(*) from nars where ${isKey} and ${isStored})
    where ${isCounterOf(sql`${isKey} and ${isNotQuarantined}`)}`);

/** Assignments are made in their order: accesses are counted by the recorded access from before. */
export const updatePresent: Compiled<'key' | 'fileHash' | 'fileSize' | 'verification' | 'at' | 'interval'> =
  compile(sql`
  update nars set file_hash = ${value('fileHash')}, file_size = ${value('fileSize')},
      verification = ${value('verification')}, generation = generation + 1,
      accesses = accesses + (${value('at')} > last_access + ${value('interval')}),
      last_access = greatest(last_access, ${value('at')}),
      evict_rank = ${rankOf(sql`last_access`, sql`accesses`, sql`file_size`)}, state = 'present'
    where ${isKey} and ${isNotQuarantined}`);

/** After `updatePresent` in the same transaction; no row for a NAR that is unknown or quarantined. */
export const selectGeneration: Compiled<'key'> = compile(
  sql`select nars.generation as generation from nars where ${isKey} and ${isNotQuarantined}`,
);

const atGeneration = sql`${isKey} and ${isGeneration} and ${isStored}`;

export const countAbsent: Compiled<'key' | 'generation'> = compile(countOut(atGeneration));

/** Finds a row if the change was made. */
export const updateAbsent: Compiled<'key' | 'generation'> = compile(
  sql`update nars set state = 'absent' where ${atGeneration}`,
);

export const countQuarantined: Compiled<'key'> = compile(countOut(sql`${isKey} and ${isStored}`));

export const updateQuarantined: Compiled<'key' | 'reason'> = compile(sql`
  update nars set state = 'quarantined', quarantine_reason = ${value('reason')}, generation = generation + 1
    where ${isKey} and ${isNotQuarantined}`);

/** Finds a row if it was recorded. */
export const updateVerified: Compiled<'key' | 'generation'> = compile(
  sql`update nars set verification = 'nar' where ${atGeneration}`,
);

/**
 * Accesses as a JSON array of pairs of key and milliseconds. What is written is worked out first: the assignments of an
 * update of several tables have no order. An access that was recorded meanwhile stays.
 */
export const updateAccesses: Compiled<'accesses' | 'interval'> = compile(sql`
  update nars as target join (
    select distinct nars.id as id, nars.last_access as before_it, told.at as at, nars.accesses + 1 as accesses,
        ${rankOf(sql`told.at`, sql`(nars.accesses + 1)`, sql`coalesce(nars.file_size, 0)`)} as evict_rank
      from (
        select convert(item.name using utf8mb4) collate utf8mb4_bin as name, max(item.at) as at
          from json_table(${value('accesses')}, '$[*]'
            columns (name varchar(512) path '$[0]', at bigint path '$[1]')) as item
          group by 1
      ) as told
      join nars on nars.\`key\` = told.name
      where told.at > nars.last_access + ${value('interval')} order by 1
  ) as due on due.id = target.id and due.before_it = target.last_access
  set target.last_access = due.at, target.accesses = due.accesses, target.evict_rank = due.evict_rank`);

/** Milliseconds since the epoch by the clock of the database. */
const now = sql`(timestampdiff(microsecond, '1970-01-01', utc_timestamp(3)) div 1000)`;

/** The second assignment sees the first: the token is ours then if the lease is. */
export const takeLease: Compiled<'name' | 'token' | 'leaseMs'> = compile(sql`
  insert into leases (name, token, ends_at)
    values (${value('name')}, ${value('token')}, ${now} + ${value('leaseMs')})
    on duplicate key update
      token = if(token = values(token) or ends_at <= ${now}, values(token), token),
      ends_at = if(token = values(token), values(ends_at), ends_at)`);

/** Gives a row if the lease is the token's. */
export const selectLease: Compiled<'name' | 'token'> = compile(
  sql`select name from leases where name = ${value('name')} and token = ${value('token')}`,
);

/** Finds a row if it was the token's. */
export const extendLease: Compiled<'name' | 'token' | 'leaseMs'> = compile(sql`
  update leases set ends_at = ${now} + ${value('leaseMs')}
    where name = ${value('name')} and token = ${value('token')} and ends_at > ${now}`);

export const releaseLease: Compiled<'name' | 'token'> = compile(
  sql`delete from leases where name = ${value('name')} and token = ${value('token')}`,
);

export const removeEndedLeases: Compiled<'olderThanMs'> = compile(
  sql`delete from leases where ends_at < ${now} - ${value('olderThanMs')}`,
);

/** One name: a look at the table, however large. */
export const selectNoLease: Compiled = compile(sql`select name from leases where name = ''`);

/** What was applied to the schema, oldest first. */
export const selectApplied: Compiled = compile(
  sql`select hash from ${sql.identifier(APPLIED)} where finished = 1 order by id`,
);
