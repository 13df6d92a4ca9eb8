import type { OrphanKind } from '../../database/upkeep-store.ts';
import type { CacheServices } from '../services.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
/** Clients remember a narinfo for so long: a path is not forgotten for the sake of the number before. */
const LEAST_AGE_MS = 30 * DAY_MS;
/** Where only their number says that paths are to be forgotten, those that were not used for so long go first. */
const FIRST_AGE_MS = 360 * DAY_MS;
const PAGE = 500;

/** When the last walk has ended, in milliseconds since the epoch. */
const DONE_MARK = 'pruned-at';
/** Where the walk goes on: the age that paths must have, in milliseconds, the last id, and the stage. */
const CURSOR_MARK = 'pruning';

/** In this order: what is left of paths is forgotten after them. */
type Stage = 'paths' | OrphanKind;
const ORPHANS: readonly OrphanKind[] = ['nars', 'nodes'];

/**
 * Forgets paths without a body that were not used for longer than the settings say, and, where there are more than they
 * say, ever younger ones; then the NARs and nodes that nothing names any more. Once a day, in pages; goes on where it was
 * ended.
 *
 * @returns how many paths were forgotten
 * @throws what the index throws
 */
export async function pruneMetadata(
  { upkeep, platform, settings }: Pick<CacheServices, 'upkeep' | 'platform' | 'settings'>,
  isOver: () => boolean,
): Promise<number> {
  const { clock } = platform;
  const { metadataRetentionMs, metadataMaxPaths } = settings;
  if (isOver() || clock.now() < Number((await upkeep.getMark(DONE_MARK)) ?? 0) + DAY_MS) return 0;
  let pruned = 0;

  /** @returns whether it came to the end */
  async function walk(stage: Stage, ageMs: number, from: number): Promise<boolean> {
    for (let afterId = from; !isOver();) {
      await platform.checkpoint?.('evict:prune');
      const page = { afterId, limit: PAGE };
      const { lastId, removed } =
        stage === 'paths'
          ? await upkeep.prunePaths({ ...page, unusedSince: clock.now() - ageMs })
          : await upkeep.pruneOrphans(stage, page);
      if (stage === 'paths') pruned += removed;
      if (lastId === null) return true;
      afterId = lastId;
      await upkeep.setMark(CURSOR_MARK, `${ageMs} ${lastId} ${stage}`);
      await clock.sleep(0);
    }
    return false;
  }

  const begun = (await upkeep.getMark(CURSOR_MARK))?.split(' ');
  const at = ORPHANS.findIndex((stage) => stage === begun?.[2]);
  let from = Number(begun?.[1] ?? 0);
  let age = begun === undefined ? metadataRetentionMs : Number(begun[0]);
  if (at < 0) {
    if (age !== null && !(await walk('paths', age, from))) return pruned;
    while (
      (age ?? Number.POSITIVE_INFINITY) > LEAST_AGE_MS &&
      (await upkeep.countPaths()) > metadataMaxPaths
    ) {
      age = age === null ? FIRST_AGE_MS : Math.max(LEAST_AGE_MS, age / 2);
      if (!(await walk('paths', age, 0))) return pruned;
    }
    from = 0;
  }
  for (const stage of ORPHANS.slice(Math.max(0, at))) {
    if (!(await walk(stage, age ?? 0, from))) return pruned;
    from = 0;
  }
  await upkeep.setMark(CURSOR_MARK, null);
  await upkeep.setMark(DONE_MARK, String(clock.now()));
  return pruned;
}
