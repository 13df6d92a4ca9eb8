import type { LeaseStore } from '../lease-store.ts';
import {
  MetadataError,
  type MetadataStore,
  type NewNar,
  type NewPath,
  type PathWithNar,
} from '../metadata-store.ts';
import type { SqliteExecutor, SqliteRow, SqliteStatement } from './executor.ts';
import { createLeaseStore } from './leases.ts';
import { inOperation } from './operation.ts';
import * as reads from './reads.ts';
import {
  integer,
  justificationValues,
  narOf,
  narValues,
  pathOf,
  pathValues,
  pathWithNarOf,
  referredHashes,
  text,
  whole,
} from './rows.ts';
import * as writes from './writes.ts';

/** Accesses recorded in one statement: some 100 kB of JSON, a few milliseconds. */
const ACCESSES_AT_ONCE = 1000;
/** An access is written if the recorded one is more than this many milliseconds older (law 11). */
const ACCESS_INTERVAL = 3_600_000;
const DEFAULT_PATHS_OF_NAR = 16;

export interface MetadataStoreOptions {
  /** As in `MetadataStore`. */
  readonly description: string;
  /** Called with `index.<operation>` before each operation that writes, as in `Platform`. */
  readonly checkpoint?: ((step: string) => void | Promise<void>) | undefined;
}

/**
 * The index over any driver of SQLite's dialect, and the leases beside it. The database must have the schema of
 * `drizzle/sqlite` already. Takes the executor over: `close` closes it.
 */
export function createMetadataStore(
  executor: SqliteExecutor,
  options: MetadataStoreOptions,
): MetadataStore & { readonly leases: LeaseStore } {
  const { description, checkpoint } = options;

  const read = <Result>(operation: string, work: () => Promise<Result>): Promise<Result> =>
    inOperation(`Index operation ${operation}`, work);

  async function write<Result>(operation: string, work: () => Promise<Result>): Promise<Result> {
    await checkpoint?.(`index.${operation}`);
    return await read(operation, work);
  }

  /** The rows of the last statement of a batch. */
  async function lastOf(statements: readonly SqliteStatement[]): Promise<readonly SqliteRow[]> {
    return (await executor.batch(statements)).at(-1) ?? [];
  }

  return {
    description,
    leases: createLeaseStore(executor, description),

    getPath: (hash) =>
      read('getPath', async () => {
        const [row] = await executor.execute(reads.selectPath({ hash }));
        return row === undefined ? null : pathWithNarOf(row);
      }),

    getNar: (key, limit = DEFAULT_PATHS_OF_NAR) =>
      read('getNar', async () => {
        // One row even for a limit of 0: it has the NAR.
        const rows = await executor.execute(reads.selectNar({ key, limit: Math.max(1, limit) }));
        const [first] = rows;
        if (first === undefined) return null;
        const claimed = rows.filter((row) => row['id'] !== null).slice(0, Math.max(0, limit));
        return { nar: narOf(first), paths: claimed.map(pathOf) };
      }),

    recordPath: (path, nar) =>
      write('recordPath', async () => {
        const record = recordOf(path, nar);
        return stored(
          path,
          await lastOf([
            ...record.nodes,
            writes.insertPath(record.values),
            writes.insertEdges(record.values),
            reads.selectPath(record.values),
          ]),
        );
      }),

    replacePath: (path, nar, revision) =>
      write('replacePath', async () => {
        const record = recordOf(path, nar);
        return stored(
          path,
          await lastOf([
            ...record.nodes,
            // Before the insertion, whose row could have just this revision.
            writes.updatePath({ ...record.values, atRevision: revision }),
            writes.insertPath(record.values),
            writes.deleteEdges(record.values),
            writes.insertEdges(record.values),
            reads.selectPath(record.values),
          ]),
        );
      }),

    rejustifyPath: (hash, revision, { signatures, justification }) =>
      write('rejustifyPath', async () => {
        const values = { hash, atRevision: revision, ...justificationValues(signatures, justification) };
        return (await executor.execute(writes.updateJustification(values))).length > 0;
      }),

    markPresent: (key, { fileHash, fileSize, verification, at }) =>
      write('markPresent', async () => {
        const values = {
          key,
          fileHash,
          fileSize: whole('file size', fileSize),
          verification,
          at: whole('time', at),
        };
        const [row] = await lastOf([writes.countPresent(values), writes.updatePresent(values)]);
        return row === undefined ? null : integer(row, 'generation');
      }),

    markAbsent: (key, generation) =>
      write('markAbsent', async () => {
        const values = { key, generation };
        return (await lastOf([writes.countAbsent(values), writes.updateAbsent(values)])).length > 0;
      }),

    markQuarantined: (key, reason) =>
      write('markQuarantined', async () => {
        await executor.batch([writes.countQuarantined({ key }), writes.updateQuarantined({ key, reason })]);
      }),

    markVerified: (key, generation) =>
      write('markVerified', async () => {
        return (await executor.execute(writes.updateVerified({ key, generation }))).length > 0;
      }),

    listUnverified: (afterId, limit) =>
      read('listUnverified', async () => {
        const rows = await executor.execute(
          reads.selectUnverified({ after: afterId, limit: atLeast0(limit) }),
        );
        return rows.map(narOf);
      }),

    listPaths: (afterId, limit) =>
      read('listPaths', async () => {
        const rows = await executor.execute(reads.selectPaths({ after: afterId, limit: atLeast0(limit) }));
        return rows.map(pathWithNarOf);
      }),

    touch: (accesses) =>
      write('touch', async () => {
        for (let at = 0; at < accesses.length; at += ACCESSES_AT_ONCE) {
          const some = accesses
            .slice(at, at + ACCESSES_AT_ONCE)
            .map((access) => [access.key, whole('time', access.at)]);
          await executor.execute(
            writes.updateAccesses({ accesses: JSON.stringify(some), interval: ACCESS_INTERVAL }),
          );
        }
      }),

    references: (hash) =>
      read('references', async () => {
        const rows = await executor.execute(reads.selectReferences({ hash }));
        return rows.map((row) => text(row, 'hash'));
      }),

    closure: (hashes) =>
      read('closure', async () => {
        const rows = await executor.execute(reads.selectClosure({ hashes: JSON.stringify(hashes) }));
        return [...new Set([...hashes, ...rows.map((row) => text(row, 'hash'))])];
      }),

    totals: () =>
      read('totals', async () => {
        const [row] = await executor.execute(reads.selectTotals({}));
        if (row === undefined) throw new MetadataError('The size counters are missing');
        return { presentBytes: integer(row, 'present_bytes'), presentNars: integer(row, 'present_nars') };
      }),

    ping: () =>
      read('ping', async () => {
        await executor.execute(reads.selectTotals({}));
      }),

    close: () => read('close', () => executor.close()),
  };
}

/** The statements and values that recording and replacing have in common. */
function recordOf(path: NewPath, nar: NewNar) {
  const hashes = JSON.stringify(referredHashes(path));
  const values = { ...pathValues(path), key: nar.key, hashes };
  return {
    values,
    nodes: [
      writes.insertNar(narValues(nar)),
      writes.insertNodes({ hashes: JSON.stringify([path.hash]) }),
      writes.insertNodes({ hashes }),
    ],
  };
}

function stored(path: NewPath, rows: readonly SqliteRow[]): PathWithNar {
  const [row] = rows;
  if (row === undefined) throw new MetadataError(`${path.storePath} was not found after it was recorded`);
  return pathWithNarOf(row);
}

/** SQLite takes a negative limit for none. */
function atLeast0(limit: number): number {
  return Math.max(0, limit);
}
