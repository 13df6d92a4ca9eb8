import type { CacheServices } from '../services.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
/** Clients remember a narinfo for so long: a path is not forgotten for the sake of the number before. */
const LEAST_AGE_MS = 30 * DAY_MS;
/** Where only their number says that paths are to be forgotten, those that were not used for so long go first. */
const FIRST_AGE_MS = 360 * DAY_MS;
const PAGE = 500;

/** When the last walk has ended, in milliseconds since the epoch. */
const DONE_MARK = 'pruned-at';
/** Where the walk goes on: the age that paths must have, in milliseconds, and the last id. */
const CURSOR_MARK = 'pruning';

/**
 * Forgets paths without a body that were not used for longer than the settings say, and, where there are more than they
 * say, ever younger ones. Once a day, in pages; goes on where it was ended.
 *
 * @returns how many were forgotten
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
  async function walk(ageMs: number, from: number): Promise<boolean> {
    for (let afterId = from; !isOver();) {
      await platform.checkpoint?.('evict:prune');
      const unusedSince = clock.now() - ageMs;
      const { lastId, removed } = await upkeep.prunePaths({ unusedSince, afterId, limit: PAGE });
      pruned += removed;
      if (lastId === null) return true;
      afterId = lastId;
      await upkeep.setMark(CURSOR_MARK, `${ageMs} ${lastId}`);
      await clock.sleep(0);
    }
    return false;
  }

  const begun = (await upkeep.getMark(CURSOR_MARK))?.split(' ').map(Number);
  let [age, from] = [begun?.[0] ?? metadataRetentionMs, begun?.[1] ?? 0];
  if (age !== null && !(await walk(age, from))) return pruned;
  while ((age ?? Number.POSITIVE_INFINITY) > LEAST_AGE_MS && (await upkeep.countPaths()) > metadataMaxPaths) {
    age = age === null ? FIRST_AGE_MS : Math.max(LEAST_AGE_MS, age / 2);
    from = 0;
    if (!(await walk(age, from))) return pruned;
  }
  await upkeep.setMark(CURSOR_MARK, null);
  await upkeep.setMark(DONE_MARK, String(clock.now()));
  return pruned;
}
