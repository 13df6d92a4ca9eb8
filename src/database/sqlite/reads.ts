import { and, eq, gt, type SQL, sql } from 'drizzle-orm';
import { build, columns, compile, type Compiled, value } from './compile.ts';
import { nars, paths, referenceEdges, sizeCounters, storeHashes } from './schema.ts';

const narColumns: Record<string, SQL.Aliased> = {
  nar_id: sql`${nars.id}`.as('nar_id'),
  ...columns(nars.key, nars.compression, nars.fileHash, nars.fileSize, nars.sourceUpstream, nars.sourceUrl),
  ...columns(nars.state, nars.verification, nars.generation, nars.lastAccess),
};

const pathColumns: Record<string, SQL.Aliased> = {
  ...columns(paths.id, storeHashes.hash, paths.storePath, paths.narHash, paths.narSize, paths.references),
  ...columns(paths.deriver, paths.ca, paths.signatures, paths.extra, paths.justification, paths.justifiedBy),
  ...columns(paths.origin, paths.revision, paths.recordedAt),
};

/** The one query of a hit (law 11). */
export const selectPath: Compiled<'hash'> = compile(
  build
    .select({ ...pathColumns, ...narColumns })
    .from(storeHashes)
    .innerJoin(paths, eq(paths.nodeId, storeHashes.id))
    .innerJoin(nars, eq(nars.id, paths.narId))
    .where(eq(storeHashes.hash, value('hash'))),
);

/** A NAR with each of its paths; one row without a path where none claims it. */
export const selectNar: Compiled<'key' | 'limit'> = compile(
  build
    .select({ ...narColumns, ...pathColumns })
    .from(nars)
    .leftJoin(paths, eq(paths.narId, nars.id))
    .leftJoin(storeHashes, eq(storeHashes.id, paths.nodeId))
    .where(eq(nars.key, value('key')))
    .orderBy(paths.id)
    .limit(sql.placeholder('limit')),
);

export const selectPaths: Compiled<'after' | 'limit'> = compile(
  build
    .select({ ...pathColumns, ...narColumns })
    .from(paths)
    .innerJoin(storeHashes, eq(storeHashes.id, paths.nodeId))
    .innerJoin(nars, eq(nars.id, paths.narId))
    .where(gt(paths.id, value('after')))
    .orderBy(paths.id)
    .limit(sql.placeholder('limit')),
);

/** The states are literals, as in the partial index that answers this. */
export const selectUnverified: Compiled<'after' | 'limit'> = compile(
  build
    .select(narColumns)
    .from(nars)
    .where(and(sql`${nars.state} = 'present' and ${nars.verification} <> 'nar'`, gt(nars.id, value('after'))))
    .orderBy(nars.id)
    .limit(sql.placeholder('limit')),
);

export const selectReferences: Compiled<'hash'> = compile(
  sql`select referred.hash as hash from ${storeHashes}
    join ${referenceEdges} on ${referenceEdges.referrer} = ${storeHashes.id}
    join ${storeHashes} as referred on referred.id = ${referenceEdges.reference}
    where ${storeHashes.hash} = ${value('hash')}`,
);

/** From a JSON array of hashes, all that are nodes of the graph and all that they lead to. */
export const selectClosure: Compiled<'hashes'> = compile(
  sql`with recursive closure(id) as (
      select ${storeHashes.id} from ${storeHashes}
        where ${storeHashes.hash} in (select value from json_each(${value('hashes')}))
      union
      select ${referenceEdges.reference} from closure
        join ${referenceEdges} on ${referenceEdges.referrer} = closure.id
    )
    select ${storeHashes.hash} as hash from closure join ${storeHashes} on ${storeHashes.id} = closure.id`,
);

export const selectTotals: Compiled = compile(
  sql`select coalesce(sum(${sizeCounters.presentBytes}), 0) as present_bytes,
    coalesce(sum(${sizeCounters.presentNars}), 0) as present_nars from ${sizeCounters}`,
);
