import type { LeaseStore } from './lease-store.ts';
import {
  BannedPathError,
  MetadataError,
  type MetadataStore,
  type NewNar,
  type NewPath,
  type PathWithNar,
} from './metadata-store.ts';
import { inOperation } from './operation.ts';
import {
  integer,
  justificationValues,
  type NarValues,
  narOf,
  narValues,
  pathOf,
  type PathValues,
  pathValues,
  pathWithNarOf,
  referredHashes,
  type Row,
  text,
  whole,
} from './rows.ts';
import type { TableRows } from './table-rows.ts';
import type { UpkeepStore } from './upkeep-store.ts';

/** Accesses recorded in one statement: some 100 kB of JSON, a few milliseconds. */
const ACCESSES_AT_ONCE = 1000;
/** An access is written if the recorded one is more than this many milliseconds older (law 11). */
const ACCESS_INTERVAL = 3_600_000;
const DEFAULT_PATHS_OF_NAR = 16;
/** How often a path is recorded whose row was not to be seen: see `RecordRows`. */
const RECORDINGS = 4;

export interface MetadataStoreOptions {
  /** As in `MetadataStore`. */
  readonly description: string;
  /** Called with `index.<operation>` before each operation that writes, as in `Platform`. */
  readonly checkpoint?: ((step: string) => void | Promise<void>) | undefined;
}

/** An index, its leases, its upkeep and its rows: all that a database of Snowcap holds. They close with the index. */
export interface IndexStore extends MetadataStore {
  readonly leases: LeaseStore;
  readonly upkeep: UpkeepStore;
  readonly rows: TableRows;
}

type Rows = Promise<readonly Row[]>;
type AtGeneration = { readonly key: string; readonly generation: number };
type Page = { readonly after: number; readonly limit: number };

/** What is bound when a path is recorded. */
export type RecordValues = PathValues &
  NarValues & {
    /** JSON array of the hashes that it refers to. */
    readonly hashes: string;
    /** JSON array of these and its own: the nodes that it needs. */
    readonly nodes: string;
  };

/**
 * The stored path. No row where it is banned: no path is recorded then. No row either where the statement was older
 * than what it ran into, as another recorded the path, a node or the NAR at the same time: then what has to do with the
 * path was left alone, and the next try sees them.
 */
type RecordRows = Rows;

/**
 * The operations of the index in one dialect of SQL, values in and rows out: each is one statement or one atomic
 * batch, as `MetadataStore` says. A row for `pathOf` and `narOf` has the columns that `reads.ts` names.
 */
export interface IndexQueries {
  /** One row, or none. */
  getPath(values: { readonly hash: string }): Rows;
  /** One row for each path, by id; one without a path where none claims the NAR. */
  getNar(values: { readonly key: string; readonly limit: number }): Rows;
  recordPath(values: RecordValues): RecordRows;
  replacePath(values: RecordValues & { readonly atRevision: number }): RecordRows;
  /** A row if the path is banned. */
  getBan(values: { readonly hash: string }): Rows;
  /** A row if the path was at the revision. */
  rejustifyPath(
    values: { readonly hash: string; readonly atRevision: number } & ReturnType<typeof justificationValues>,
  ): Rows;
  /** A row with the new `generation`; none for a NAR that is unknown or quarantined. */
  markPresent(values: {
    readonly key: string;
    readonly fileHash: string;
    readonly fileSize: number;
    readonly verification: string;
    readonly at: number;
    /** Milliseconds: an access counts if the recorded one is older than that. */
    readonly interval: number;
  }): Rows;
  /** A row if the change was made. */
  markAbsent(values: AtGeneration): Rows;
  markQuarantined(values: { readonly key: string; readonly reason: string }): Rows;
  /** A row if it was recorded. */
  markVerified(values: AtGeneration): Rows;
  listUnverified(values: Page): Rows;
  listPaths(values: Page): Rows;
  /** @param values.accesses JSON array of pairs of key and milliseconds */
  touch(values: { readonly accesses: string; readonly interval: number }): Rows;
  /** Rows with a `hash`, as `closure`. */
  references(values: { readonly hash: string }): Rows;
  /** @param values.hashes JSON array */
  closure(values: { readonly hashes: string }): Rows;
  /** A row with `present_bytes` and `present_nars`. */
  totals(): Rows;
  /** May be called twice; what is asked afterwards throws. */
  close(): Promise<void>;
}

/** The index over the queries of any dialect. The database must have their schema already. Takes them over. */
export function createIndex(queries: IndexQueries, options: MetadataStoreOptions): MetadataStore {
  const { description, checkpoint } = options;

  const read = <Result>(operation: string, work: () => Promise<Result>): Promise<Result> =>
    inOperation(`Index operation ${operation}`, work);

  async function write<Result>(operation: string, work: () => Promise<Result>): Promise<Result> {
    await checkpoint?.(`index.${operation}`);
    return await read(operation, work);
  }

  /** Until the path is seen: see `RecordRows`. */
  async function recorded(path: NewPath, attempt: () => Rows): Promise<PathWithNar> {
    for (let tries = 0; tries < RECORDINGS; tries++) {
      const [row] = await attempt();
      if (row !== undefined) return pathWithNarOf(row);
      if ((await queries.getBan({ hash: path.hash })).length > 0) {
        throw new BannedPathError(`${path.storePath} is banned`);
      }
    }
    throw new MetadataError(`${path.storePath} was not found after it was recorded`);
  }

  return {
    description,

    getPath: (hash) =>
      read('getPath', async () => {
        const [row] = await queries.getPath({ hash });
        return row === undefined ? null : pathWithNarOf(row);
      }),

    getNar: (key, limit = DEFAULT_PATHS_OF_NAR) =>
      read('getNar', async () => {
        // One row even for a limit of 0: it has the NAR.
        const rows = await queries.getNar({ key, limit: Math.max(1, limit) });
        const [first] = rows;
        if (first === undefined) return null;
        const claimed = rows.filter((row) => row['id'] !== null).slice(0, Math.max(0, limit));
        return { nar: narOf(first), paths: claimed.map(pathOf) };
      }),

    recordPath: (path, nar) =>
      write('recordPath', async () => {
        const values = recordValues(path, nar);
        return await recorded(path, () => queries.recordPath(values));
      }),

    replacePath: (path, nar, revision) =>
      write('replacePath', async () => {
        const values = { ...recordValues(path, nar), atRevision: revision };
        return await recorded(path, () => queries.replacePath(values));
      }),

    rejustifyPath: (hash, revision, { signatures, justification }) =>
      write('rejustifyPath', async () => {
        const values = { hash, atRevision: revision, ...justificationValues(signatures, justification) };
        return (await queries.rejustifyPath(values)).length > 0;
      }),

    markPresent: (key, { fileHash, fileSize, verification, at }) =>
      write('markPresent', async () => {
        const values = {
          key,
          fileHash,
          fileSize: whole('file size', fileSize),
          verification,
          at: whole('time', at),
          interval: ACCESS_INTERVAL,
        };
        const [row] = await queries.markPresent(values);
        return row === undefined ? null : integer(row, 'generation');
      }),

    markAbsent: (key, generation) =>
      write('markAbsent', async () => {
        return (await queries.markAbsent({ key, generation })).length > 0;
      }),

    markQuarantined: (key, reason) =>
      write('markQuarantined', async () => {
        await queries.markQuarantined({ key, reason });
      }),

    markVerified: (key, generation) =>
      write('markVerified', async () => {
        return (await queries.markVerified({ key, generation })).length > 0;
      }),

    listUnverified: (afterId, limit) =>
      read('listUnverified', async () => {
        const rows = await queries.listUnverified({ after: afterId, limit: atLeast0(limit) });
        return rows.map(narOf);
      }),

    listPaths: (afterId, limit) =>
      read('listPaths', async () => {
        const rows = await queries.listPaths({ after: afterId, limit: atLeast0(limit) });
        return rows.map(pathWithNarOf);
      }),

    touch: (accesses) =>
      write('touch', async () => {
        for (let at = 0; at < accesses.length; at += ACCESSES_AT_ONCE) {
          const some = accesses
            .slice(at, at + ACCESSES_AT_ONCE)
            .map((access) => [access.key, whole('time', access.at)]);
          await queries.touch({ accesses: JSON.stringify(some), interval: ACCESS_INTERVAL });
        }
      }),

    references: (hash) =>
      read('references', async () => {
        const rows = await queries.references({ hash });
        return rows.map((row) => text(row, 'hash'));
      }),

    closure: (hashes) =>
      read('closure', async () => {
        const rows = await queries.closure({ hashes: JSON.stringify(hashes) });
        return [...new Set([...hashes, ...rows.map((row) => text(row, 'hash'))])];
      }),

    totals: () =>
      read('totals', async () => {
        const [row] = await queries.totals();
        if (row === undefined) throw new MetadataError('The size counters are missing');
        return { presentBytes: integer(row, 'present_bytes'), presentNars: integer(row, 'present_nars') };
      }),

    ping: () =>
      read('ping', async () => {
        await queries.totals();
      }),

    close: () => read('close', () => queries.close()),
  };
}

function recordValues(path: NewPath, nar: NewNar): RecordValues {
  const referred = referredHashes(path);
  return {
    ...pathValues(path),
    ...narValues(nar),
    hashes: JSON.stringify(referred),
    nodes: JSON.stringify([path.hash, ...referred]),
  };
}

/** SQLite takes a negative limit for none; the others refuse it. */
function atLeast0(limit: number): number {
  return Math.max(0, limit);
}
