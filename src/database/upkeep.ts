import { inOperation } from './operation.ts';
import { integer, narOf, pathWithNarOf, type Row, text, whole } from './rows.ts';
import { keeperIn, banOf, danglingOf, evictableOf, evictingOf, pinOf, totalsOf } from './upkeep-rows.ts';
import type { EvictingNar, NarAtGeneration, PrunedPage, UpkeepStore } from './upkeep-store.ts';

type Rows = Promise<readonly Row[]>;
type Page = { readonly after: number; readonly limit: number };

/**
 * The operations of upkeep in one dialect of SQL, values in and rows out, as `IndexQueries`. Lists are JSON arrays.
 * `now` and other times are milliseconds since the epoch.
 */
export interface UpkeepQueries {
  /** Columns of a NAR, with `accesses`, `evict_rank`, `is_pinned` and `is_referred` (0 or 1). */
  listEvictable(values: {
    readonly pushed: number;
    readonly afterRank: number;
    readonly afterId: number;
    readonly accessedBefore: number;
    readonly now: number;
    readonly limit: number;
  }): Rows;
  /**
   * Rows as `listEvicting`, of those that were changed.
   *
   * @param values.seen array of triples of key, generation and last access
   * @param values.regardless 1: whatever keeps them
   */
  markEvicting(values: { readonly seen: string; readonly now: number; readonly regardless: number }): Rows;
  /** Rows with a `key`. @param values.nars array of pairs of key and generation */
  spareEvicting(values: { readonly nars: string; readonly now: number }): Rows;
  /** Rows with a `key`. @param values.nars array of pairs of key and generation */
  finishEvicting(values: { readonly nars: string }): Rows;
  /** Rows with `nar_id`, `key`, `generation`, `file_size` and `hash` (null where no path claims it), by id: one for each path. */
  listEvicting(values: Page): Rows;
  markObtainable(values: {
    readonly key: string;
    readonly sourceUpstream: string | null;
    readonly sourceUrl: string | null;
  }): Rows;
  /** @param values.nodes array of the hash alone */
  putPin(values: {
    readonly name: string;
    readonly hash: string;
    readonly nodes: string;
    readonly storePath: string;
    readonly createdAt: number;
    readonly expiresAt: number | null;
  }): Rows;
  /** A row if there was one. */
  deletePin(values: { readonly name: string }): Rows;
  /** `name`, `store_path`, `hash`, `created_at`, `expires_at`, and what `PinRecord` sums. */
  listPins(): Rows;
  /** Adds to a pin what its closure is by now. */
  extendPin(values: { readonly name: string }): Rows;
  /** `present_bytes` and `present_nars`. */
  pinnedTotals(values: { readonly now: number }): Rows;
  /** A row with `is_pinned` and `is_referred` (0 or 1); none for a hash never met. */
  getKeeper(values: { readonly hash: string; readonly now: number }): Rows;
  /** A row if it was known. */
  removePath(values: { readonly hash: string }): Rows;
  /** @param values.quarantine the reason for the quarantine of its NAR */
  banPath(values: {
    readonly hash: string;
    readonly storePath: string;
    readonly reason: string;
    readonly at: number;
    readonly quarantine: string;
  }): Rows;
  /** A row if there was a ban. @param values.quarantine as `banPath` */
  unbanPath(values: { readonly hash: string; readonly quarantine: string }): Rows;
  /** `hash`, `store_path`, `reason`, `banned_at`. */
  listBans(): Rows;
  /** A row with a `value`, or none. */
  getMark(values: { readonly name: string }): Rows;
  setMark(values: { readonly name: string; readonly value: string }): Rows;
  removeMark(values: { readonly name: string }): Rows;
  listNars(values: Page): Rows;
  /** @param values.keys array */
  findNars(values: { readonly keys: string }): Rows;
  /** @param values.hashes array */
  findPaths(values: { readonly hashes: string }): Rows;
  /** `id`, `hash`, `store_path`, `missing`, `missing_count`. */
  listDangling(values: Page): Rows;
  /** `present_bytes` and `present_nars`, summed over the rows of NARs. */
  sumTotals(): Rows;
  /** Sets the counters to what the rows say. */
  repairTotals(): Rows;
  totals(): Rows;
  /** A row with a `count`. */
  countPaths(): Rows;
  /** `id` and, where the path may be pruned, `prunable` 1, else 0. So the next two, of theirs. */
  listPrunable(values: Page & { readonly unusedSince: number }): Rows;
  listOrphanNars(values: Page): Rows;
  listOrphanNodes(values: Page): Rows;
  /** Forgets those that may still be pruned, with their edges. Rows with an `id`. @param values.ids array of ids of paths */
  prunePaths(values: { readonly ids: string; readonly unusedSince: number }): Rows;
  /** Forgets those that are orphans still. Rows with an `id`. @param values.ids array */
  pruneOrphanNars(values: { readonly ids: string }): Rows;
  pruneOrphanNodes(values: { readonly ids: string }): Rows;
}

/** Prefix of the reason of a quarantine that a ban has brought, before the hash. */
const BANNED = 'banned ';

/** The upkeep over the queries of any dialect. */
export function createUpkeep(
  queries: UpkeepQueries,
  checkpoint?: (step: string) => void | Promise<void>,
): UpkeepStore {
  const read = <Result>(operation: string, work: () => Promise<Result>): Promise<Result> =>
    inOperation(`Index operation ${operation}`, work);

  async function write<Result>(operation: string, work: () => Promise<Result>): Promise<Result> {
    await checkpoint?.(`index.${operation}`);
    return await read(operation, work);
  }

  /** @returns whether it gave a row */
  const changes = (operation: string, query: () => Rows): Promise<boolean> =>
    write(operation, async () => (await query()).length > 0);

  return {
    listEvictable: ({ pushed, after, accessedBefore, now, limit }) =>
      read('listEvictable', async () => {
        const rows = await queries.listEvictable({
          pushed: pushed ? 1 : 0,
          afterRank: after?.rank ?? -1,
          afterId: after?.id ?? 0,
          accessedBefore,
          now,
          limit: Math.max(0, limit),
        });
        return rows.map(evictableOf);
      }),
    markEvicting: (seen, now, { regardless = false } = {}) =>
      write('markEvicting', async () => {
        const triples = seen.map(({ key, generation, lastAccess }) => [key, generation, lastAccess]);
        const values = { seen: JSON.stringify(triples), now, regardless: regardless ? 1 : 0 };
        return seen.length === 0 ? [] : evictingOf(await queries.markEvicting(values));
      }),
    spareEvicting: (nars, now) =>
      write('spareEvicting', async () => {
        if (nars.length === 0) return [];
        return (await queries.spareEvicting({ nars: pairsOf(nars), now })).map(keyOf);
      }),
    finishEvicting: (nars) =>
      write('finishEvicting', async () => {
        if (nars.length === 0) return [];
        return (await queries.finishEvicting({ nars: pairsOf(nars) })).map(keyOf);
      }),
    listEvicting: (afterId, limit) =>
      read('listEvicting', async (): Promise<readonly EvictingNar[]> => {
        return evictingOf(await queries.listEvicting({ after: afterId, limit: Math.max(0, limit) }));
      }),
    markObtainable: (key, source) =>
      write('markObtainable', async () => {
        const { upstream = null, url = null } = source ?? {};
        await queries.markObtainable({ key, sourceUpstream: upstream, sourceUrl: url });
      }),

    putPin: (pin) =>
      write('putPin', async () => {
        const createdAt = whole('time', pin.createdAt);
        await queries.putPin({ ...pin, createdAt, nodes: JSON.stringify([pin.hash]) });
      }),
    deletePin: (name) => changes('deletePin', () => queries.deletePin({ name })),
    listPins: () => read('listPins', async () => (await queries.listPins()).map(pinOf)),
    refreshPins: (now) =>
      write('refreshPins', async () => {
        const removed: string[] = [];
        for (const { name, expiresAt } of (await queries.listPins()).map(pinOf)) {
          if (expiresAt !== null && expiresAt <= now) {
            await queries.deletePin({ name });
            removed.push(name);
          } else {
            await queries.extendPin({ name });
          }
        }
        return removed;
      }),
    pinnedTotals: (now) => read('pinnedTotals', async () => totalsOf(await queries.pinnedTotals({ now }))),

    keeperOf: (hash, now) =>
      read('keeperOf', async () => {
        const [row] = await queries.getKeeper({ hash, now });
        return row === undefined ? null : keeperIn(row);
      }),
    removePath: (hash) => changes('removePath', () => queries.removePath({ hash })),
    banPath: (ban) =>
      write('banPath', async () => {
        await queries.banPath({ ...ban, at: whole('time', ban.at), quarantine: `${BANNED}${ban.hash}` });
      }),
    unbanPath: (hash) =>
      changes('unbanPath', () => queries.unbanPath({ hash, quarantine: `${BANNED}${hash}` })),
    listBans: () => read('listBans', async () => (await queries.listBans()).map(banOf)),

    getMark: (name) =>
      read('getMark', async () => {
        const [row] = await queries.getMark({ name });
        return row === undefined ? null : text(row, 'value');
      }),
    setMark: (name, value) =>
      write('setMark', async () => {
        await (value === null ? queries.removeMark({ name }) : queries.setMark({ name, value }));
      }),

    listNars: (afterId, limit) =>
      read('listNars', async () => {
        const rows = await queries.listNars({ after: afterId, limit: Math.max(0, limit) });
        return rows.map(narOf);
      }),
    findNars: (keys) =>
      read('findNars', async () => (await queries.findNars({ keys: JSON.stringify(keys) })).map(narOf)),
    findPaths: (hashes) =>
      read('findPaths', async () => {
        const rows = await queries.findPaths({ hashes: JSON.stringify(hashes) });
        return rows.map(pathWithNarOf);
      }),
    listDangling: (afterId, limit) =>
      read('listDangling', async () => {
        const rows = await queries.listDangling({ after: afterId, limit: Math.max(0, limit) });
        return rows.map(danglingOf);
      }),

    recountTotals: ({ repair }) =>
      write('recountTotals', async () => {
        const counted = totalsOf(await queries.totals());
        const actual = totalsOf(await queries.sumTotals());
        if (repair) await queries.repairTotals();
        return { counted, actual };
      }),
    countPaths: () =>
      read('countPaths', async () => {
        const [row] = await queries.countPaths();
        return row === undefined ? 0 : integer(row, 'count');
      }),
    prunePaths: ({ unusedSince, afterId, limit }) =>
      write('prunePaths', async () => {
        const page = await queries.listPrunable({ after: afterId, limit: Math.max(0, limit), unusedSince });
        return await prunedPage(page, (ids) => queries.prunePaths({ ids, unusedSince }));
      }),
    pruneOrphans: (of, { afterId, limit }) =>
      write('pruneOrphans', async () => {
        const page = { after: afterId, limit: Math.max(0, limit) };
        return of === 'nars'
          ? await prunedPage(await queries.listOrphanNars(page), (ids) => queries.pruneOrphanNars({ ids }))
          : await prunedPage(await queries.listOrphanNodes(page), (ids) => queries.pruneOrphanNodes({ ids }));
      }),
  };
}

/** @param prune forgets those of a JSON array of ids that may still be */
async function prunedPage(page: readonly Row[], prune: (ids: string) => Rows): Promise<PrunedPage> {
  const last = page.at(-1);
  if (last === undefined) return { lastId: null, removed: 0 };
  const ids = page.filter((row) => integer(row, 'prunable') === 1).map((row) => integer(row, 'id'));
  const removed = ids.length === 0 ? [] : await prune(JSON.stringify(ids));
  return { lastId: integer(last, 'id'), removed: removed.length };
}

function pairsOf(nars: readonly NarAtGeneration[]): string {
  return JSON.stringify(nars.map(({ key, generation }) => [key, generation]));
}

function keyOf(row: Row): string {
  return text(row, 'key');
}
