import { and, eq, type SQL, sql } from 'drizzle-orm';
import { type Compiled, value } from '../compile.ts';
import type { NarValues, PathValues } from '../rows.ts';
import { rankOf } from '../rank.ts';
import { COUNTER_SHARDS } from '../tables.ts';
import { build, columns, compile } from './compile.ts';
import { bans, nars, paths, referenceEdges, sizeCounters, storeHashes } from './schema.ts';

const isKey = eq(nars.key, value('key'));
const isGeneration = eq(nars.generation, value('generation'));
const isInStorage = sql`${nars.state} in ('present', 'evicting')`;
const isNotQuarantined = sql`${nars.state} <> 'quarantined'`;

const nodeId = sql`(select ${storeHashes.id} from ${storeHashes} where ${storeHashes.hash} = ${value('hash')})`;
const narId = sql`(select ${nars.id} from ${nars} where ${isKey})`;

/** Columns that are not named begin with their defaults. */
export const insertNar: Compiled<keyof NarValues> = compile(
  build
    .insert(nars)
    .values({
      key: value('key'),
      compression: value('compression'),
      fileHash: value('fileHash'),
      fileSize: value('fileSize'),
      sourceUpstream: value('sourceUpstream'),
      sourceUrl: value('sourceUrl'),
      pushed: value('pushed'),
    })
    .onConflictDoNothing({ target: nars.key }),
);

/** Graph nodes for those of a JSON array of hashes that have none yet. */
export const insertNodes: Compiled<'hashes'> = compile(
  build
    .insert(storeHashes)
    // Without `where true` the parser takes ON CONFLICT for a join condition.
    .select(sql`select null, value from json_each(${value('hashes')}) where true`)
    .onConflictDoNothing({ target: storeHashes.hash }),
);

type PathValue = keyof PathValues | 'key';

const signed = {
  signatures: value('signatures'),
  justification: value('justification'),
  justifiedBy: value('justifiedBy'),
};
const facts = {
  narId,
  storePath: value('storePath'),
  narHash: value('narHash'),
  narSize: value('narSize'),
  references: value('references'),
  deriver: value('deriver'),
  ca: value('ca'),
  ...signed,
  extra: value('extra'),
  origin: value('origin'),
  recordedAt: value('recordedAt'),
};

const FACTS: readonly (keyof typeof facts)[] = [
  ...(['narId', 'storePath', 'narHash', 'narSize', 'references', 'deriver', 'ca'] as const),
  ...(['signatures', 'justification', 'justifiedBy', 'extra', 'origin', 'recordedAt'] as const),
];
const columnsOfFacts = FACTS.map((column) => ({
  name: sql.identifier(paths[column].name),
  value: facts[column],
}));

/** The path's node and its NAR must be there. Nothing where it is banned. */
export const insertPath: Compiled<PathValue> = compile(
  sql`insert into ${paths} (${listOf(sql`node_id`, 'name')}) select ${listOf(nodeId, 'value')}
    where not exists (select 1 from ${bans} where ${bans.hash} = ${value('hash')})
    on conflict (node_id) do nothing`,
);

/** What stands for the node, and after it what stands for each fact. */
function listOf(node: SQL, part: 'name' | 'value'): SQL {
  return sql.join([node, ...columnsOfFacts.map((column) => sql`${column[part]}`)], sql`, `);
}

const isAtRevision = sql`${paths.nodeId} = ${nodeId} and ${paths.revision} = ${value('atRevision')}`;
const nextRevision = sql`${paths.revision} + 1`;

/** The path's NAR must be there. */
export const updatePath: Compiled<PathValue | 'atRevision'> = compile(
  build
    .update(paths)
    .set({ ...facts, revision: nextRevision })
    .where(isAtRevision),
);

/** Gives a row if the path was at the revision. */
export const updateJustification: Compiled<
  'hash' | 'atRevision' | 'signatures' | 'justification' | 'justifiedBy'
> = compile(
  build
    .update(paths)
    .set({ ...signed, revision: nextRevision })
    .where(isAtRevision)
    .returning(columns(paths.id)),
);

// Edges follow the stored path, which may be another's record: they change only where its references are these.
const areStored = sql`(select ${paths.references} from ${paths} where ${paths.nodeId} = ${nodeId}) = ${value('references')}`;

export const deleteEdges: Compiled<'hash' | 'references'> = compile(
  build.delete(referenceEdges).where(sql`${referenceEdges.referrer} = ${nodeId} and ${areStored}`),
);

/** Edges to those of a JSON array of hashes; their nodes must be there. */
export const insertEdges: Compiled<'hash' | 'hashes' | 'references'> = compile(
  build
    .insert(referenceEdges)
    .select(
      sql`select ${nodeId}, ${storeHashes.id} from json_each(${value('hashes')}) as referred
        cross join ${storeHashes} where ${storeHashes.hash} = referred.value and ${areStored}`,
    )
    .onConflictDoNothing(),
);

/**
 * The counter of the NAR that meets the condition; none where there is no such NAR. A change of a counter goes
 * before the change of its NAR in the same batch, and reads what that NAR counts until then.
 */
function isCounterOf(nar: SQL | undefined): SQL {
  const shards = sql.raw(String(COUNTER_SHARDS));
  return sql`${sizeCounters.shard} = (select ${nars.id} % ${shards} from ${nars} where ${nar})`;
}

function countOut(nar: SQL | undefined): SQL {
  return build
    .update(sizeCounters)
    .set({
      presentBytes: sql`${sizeCounters.presentBytes} - (select ${nars.fileSize} from ${nars} where ${nar})`,
      presentNars: sql`${sizeCounters.presentNars} - 1`,
    })
    .where(isCounterOf(nar))
    .getSQL();
}

const counted = and(isKey, isInStorage);

export const countPresent: Compiled<'key' | 'fileSize'> = compile(
  build
    .update(sizeCounters)
    .set({
      presentBytes: sql`${sizeCounters.presentBytes} + ${value('fileSize')}
        - coalesce((select ${nars.fileSize} from ${nars} where ${counted}), 0)`,
      presentNars: sql`${sizeCounters.presentNars} + 1 - (select count(*) from ${nars} where ${counted})`,
    })
    .where(isCounterOf(and(isKey, isNotQuarantined))),
);

const latestAccess = sql`max(${nars.lastAccess}, ${value('at')})`;
const accessesWithThis = sql`(${nars.accesses} + (${value('at')} > ${nars.lastAccess} + ${value('interval')}))`;

/** Gives the new generation; no row for a NAR that is unknown or quarantined. */
export const updatePresent: Compiled<'key' | 'fileHash' | 'fileSize' | 'verification' | 'at' | 'interval'> =
  compile(
    build
      .update(nars)
      .set({
        fileHash: value('fileHash'),
        fileSize: value('fileSize'),
        verification: value('verification'),
        state: sql`'present'`,
        generation: sql`${nars.generation} + 1`,
        lastAccess: latestAccess,
        accesses: accessesWithThis,
        evictRank: rankOf(latestAccess, accessesWithThis, value('fileSize')),
      })
      .where(and(isKey, isNotQuarantined))
      .returning(columns(nars.generation)),
  );

const atGeneration = and(isKey, isGeneration, isInStorage);

export const countAbsent: Compiled<'key' | 'generation'> = compile(countOut(atGeneration));

/** Gives a row if the change was made. */
export const updateAbsent: Compiled<'key' | 'generation'> = compile(
  build
    .update(nars)
    .set({ state: sql`'absent'` })
    .where(atGeneration)
    .returning(columns(nars.id)),
);

export const countQuarantined: Compiled<'key'> = compile(countOut(counted));

export const updateQuarantined: Compiled<'key' | 'reason'> = compile(
  build
    .update(nars)
    .set({
      state: sql`'quarantined'`,
      quarantineReason: value('reason'),
      generation: sql`${nars.generation} + 1`,
    })
    .where(and(isKey, isNotQuarantined)),
);

/** Gives a row if it was recorded. */
export const updateVerified: Compiled<'key' | 'generation'> = compile(
  build
    .update(nars)
    .set({ verification: sql`'nar'` })
    .where(atGeneration)
    .returning(columns(nars.id)),
);

/** Accesses as a JSON array of pairs of key and milliseconds, those that are recent enough to be written. */
export const updateAccesses: Compiled<'accesses' | 'interval'> = compile(
  build
    .update(nars)
    .set({
      lastAccess: sql`accesses.at`,
      accesses: sql`${nars.accesses} + 1`,
      evictRank: rankOf(sql`accesses.at`, sql`(${nars.accesses} + 1)`, sql`coalesce(${nars.fileSize}, 0)`),
    })
    .from(
      sql`(select json_extract(value, '$[0]') as key, max(json_extract(value, '$[1]')) as at
        from json_each(${value('accesses')}) group by 1) as accesses`,
    )
    .where(sql`${nars.key} = accesses.key and accesses.at > ${nars.lastAccess} + ${value('interval')}`),
);
