import { type Column, type SQL, sql, type Table } from 'drizzle-orm';
import { type Compile, type Compiled, value } from './compile.ts';
import type { NarColumn, PathColumn } from './tables.ts';

type TableOf<Name extends string> = Table & Readonly<Record<Name, Column>>;

/** The tables that are read, in the schema of any dialect. */
export interface IndexTables {
  readonly storeHashes: TableOf<'id' | 'hash'>;
  readonly nars: TableOf<NarColumn>;
  readonly paths: TableOf<PathColumn>;
  readonly referenceEdges: TableOf<'referrer' | 'reference'>;
  readonly sizeCounters: TableOf<'presentBytes' | 'presentNars'>;
}

/** What the dialects say differently. */
export interface ReadingDialect {
  readonly compile: Compile;
  /** A JSON array of hashes as a table `listed` with one column `value`. */
  readonly listed: SQL;
  /** Sums two columns of integers as an integer, 0 over no rows. */
  sum(column: Column): SQL;
}

/** The statements that read the index. */
export interface IndexReads {
  /** The one query of a hit (law 11). */
  readonly selectPath: Compiled<'hash'>;
  /** A NAR with each of its paths; one row without a path where none claims it. */
  readonly selectNar: Compiled<'key' | 'limit'>;
  readonly selectPaths: Compiled<'after' | 'limit'>;
  readonly selectUnverified: Compiled<'after' | 'limit'>;
  readonly selectReferences: Compiled<'hash'>;
  /** From a JSON array of hashes, all that are nodes of the graph and all that they lead to. */
  readonly selectClosure: Compiled<'hashes'>;
  readonly selectTotals: Compiled;
}

export function indexReads(tables: IndexTables, dialect: ReadingDialect): IndexReads {
  const { storeHashes, nars, paths, referenceEdges, sizeCounters } = tables;
  const { compile, listed, sum } = dialect;
  const pathColumns = pathColumnsOf(paths, sql`${storeHashes.hash}`);
  const narColumns = narColumnsOf(nars);
  return {
    selectPath: compile(
      sql`select ${pathColumns}, ${narColumns} from ${storeHashes}
        inner join ${paths} on ${paths.nodeId} = ${storeHashes.id}
        inner join ${nars} on ${nars.id} = ${paths.narId}
        where ${storeHashes.hash} = ${value('hash')}`,
    ),
    selectNar: compile(
      sql`select ${narColumns}, ${pathColumns} from ${nars}
        left join ${paths} on ${paths.narId} = ${nars.id}
        left join ${storeHashes} on ${storeHashes.id} = ${paths.nodeId}
        where ${nars.key} = ${value('key')} order by ${paths.id} limit ${value('limit')}`,
    ),
    selectPaths: compile(
      sql`select ${pathColumns}, ${narColumns} from ${paths}
        inner join ${storeHashes} on ${storeHashes.id} = ${paths.nodeId}
        inner join ${nars} on ${nars.id} = ${paths.narId}
        where ${paths.id} > ${value('after')} order by ${paths.id} limit ${value('limit')}`,
    ),
    // The states are literals, as in the partial index that answers this.
    selectUnverified: compile(
      sql`select ${narColumns} from ${nars}
        where ${nars.state} = 'present' and ${nars.verification} <> 'nar' and ${nars.id} > ${value('after')}
        order by ${nars.id} limit ${value('limit')}`,
    ),
    selectReferences: compile(
      sql`select referred.hash as hash from ${storeHashes}
        join ${referenceEdges} on ${referenceEdges.referrer} = ${storeHashes.id}
        join ${storeHashes} as referred on referred.id = ${referenceEdges.reference}
        where ${storeHashes.hash} = ${value('hash')}`,
    ),
    // `cross join`: in this order, whatever SQLite takes for shorter.
    selectClosure: compile(
      sql`with recursive closure(id) as (
          select ${storeHashes.id} from ${storeHashes}
            where ${storeHashes.hash} in (select listed.value from ${listed})
          union
          select ${referenceEdges.reference} from closure
            cross join ${referenceEdges} where ${referenceEdges.referrer} = closure.id
        )
        select ${storeHashes.hash} as hash from closure
          cross join ${storeHashes} where ${storeHashes.id} = closure.id`,
    ),
    selectTotals: compile(
      sql`select ${sum(sizeCounters.presentBytes)} as present_bytes,
        ${sum(sizeCounters.presentNars)} as present_nars from ${sizeCounters}`,
    ),
  };
}

/** The columns of a path as `pathOf` reads them. */
export function pathColumnsOf(paths: IndexTables['paths'], hash: SQL): SQL {
  const { id, storePath, narHash, narSize, references, deriver, ca, signatures, extra } = paths;
  const { justification, justifiedBy, origin, revision, recordedAt } = paths;
  return sql.join(
    [
      named('hash', hash),
      ...[id, storePath, narHash, narSize, references, deriver, ca, signatures, extra].map(selected),
      ...[justification, justifiedBy, origin, revision, recordedAt].map(selected),
    ],
    sql`, `,
  );
}

/** The columns of a NAR as `narOf` reads them. */
export function narColumnsOf(nars: IndexTables['nars']): SQL {
  const { id, key, compression, fileHash, fileSize, sourceUpstream, sourceUrl } = nars;
  const { state, verification, generation, lastAccess } = nars;
  return sql.join(
    [
      named('nar_id', sql`${id}`),
      ...[key, compression, fileHash, fileSize, sourceUpstream, sourceUrl].map(selected),
      ...[state, verification, generation, lastAccess].map(selected),
    ],
    sql`, `,
  );
}

/** A column under its own name, which not every dialect promises where it is not spelled out. */
function selected(column: Column): SQL {
  return named(column.name, sql`${column}`);
}

function named(name: string, expression: SQL): SQL {
  return sql`${expression} as ${sql.identifier(name)}`;
}
