import { sql } from 'drizzle-orm';
import { MySqlDialect } from 'drizzle-orm/mysql-core';
import { type Compiled, compilerOf, value } from '../compile.ts';
import { APPLIED } from '../migrations.ts';
import { type IndexReads, indexReads, narColumnsOf } from '../reads.ts';
import type { NarValues, PathValues } from '../rows.ts';
import { COUNTER_SHARDS } from '../tables.ts';
import * as tables from './schema.ts';

/**
 * Statements that MySQL 8 and MariaDB from 10.6 on both understand. They have no `returning` in common, so that an
 * operation which writes and answers is several statements in one transaction. It is in READ COMMITTED: each
 * statement sees what others have committed before it. A change begins with locking its NAR; nodes are inserted
 * in the order of their hashes: NAR first, then counter; nodes first, then NAR, then path.
 *
 * `insert ignore` would also ignore values that do not fit: an update that changes nothing stands in its place.
 */
const compile = compilerOf(new MySqlDialect());

/** The strings of a JSON array as a table `listed`, in the collation of the columns, whatever the server's is. */
function listed(name: string) {
  return sql`(
    select convert(item.value using utf8mb4) collate utf8mb4_bin as value
      from json_table(${value(name)}, '$[*]' columns (value varchar(512) path '$')) as item
  ) as listed`;
}

const narPage = sql`select ${narColumnsOf(tables.nars)} from nars`;
const afterId = sql`nars.id > ${value('after')} order by nars.id limit ${value('limit')}`;

export const reads: IndexReads = {
  ...indexReads(tables, {
    compile,
    listed: listed('hashes'),
    sum: (column) => sql`cast(coalesce(sum(${column}), 0) as signed)`,
    // Both stop at 1000 steps by themselves, MariaDB without an error. Each takes the other's way for a comment.
    anyDepth: {
      before: sql`/*M!100600 set statement max_recursive_iterations = 4294967295 for */ `,
      hint: sql`/*+ set_var(cte_max_recursion_depth = 4294967295) */ `,
    },
  }),
  // There are no partial indexes: each half is in the order of `nars_unverified`.
  selectUnverified: compile(sql`
    (${narPage} where nars.state = 'present' and nars.verification = 'none' and ${afterId})
    union all (${narPage} where nars.state = 'present' and nars.verification = 'file' and ${afterId})
    order by nar_id limit ${value('limit')}`),
};

export const insertNar: Compiled<keyof NarValues> = compile(sql`
  insert into nars (\`key\`, compression, file_hash, file_size, source_upstream, source_url)
    values (${value('key')}, ${value('compression')}, ${value('fileHash')}, ${value('fileSize')},
      ${value('sourceUpstream')}, ${value('sourceUrl')})
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

/** The path's node and its NAR must be there. */
export const insertPath: Compiled<PathValue> = compile(sql`
  insert into paths (node_id, nar_id, store_path, nar_hash, nar_size, \`references\`, deriver, ca, signatures, extra,
      justification, justified_by, origin, recorded_at)
    values (${nodeId}, ${narId}, ${value('storePath')}, ${value('narHash')}, ${value('narSize')},
      ${value('references')}, ${value('deriver')}, ${value('ca')}, ${value('signatures')}, ${value('extra')},
      ${value('justification')}, ${value('justifiedBy')}, ${value('origin')}, ${value('recordedAt')})
    on duplicate key update id = id`);

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

export const updatePresent: Compiled<'key' | 'fileHash' | 'fileSize' | 'verification' | 'at'> = compile(sql`
  update nars set file_hash = ${value('fileHash')}, file_size = ${value('fileSize')},
      verification = ${value('verification')}, generation = generation + 1,
      last_access = greatest(last_access, ${value('at')}), state = 'present'
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

/** Accesses as a JSON array of pairs of key and milliseconds. */
export const updateAccesses: Compiled<'accesses' | 'interval'> = compile(sql`
  update (
    select convert(item.name using utf8mb4) collate utf8mb4_bin as name, max(item.at) as at
      from json_table(${value('accesses')}, '$[*]'
        columns (name varchar(512) path '$[0]', at bigint path '$[1]')) as item
      group by 1 order by 1
  ) as accesses
  join nars on nars.\`key\` = accesses.name
  set nars.last_access = accesses.at
  where accesses.at > nars.last_access + ${value('interval')}`);

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
