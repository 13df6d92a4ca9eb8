import { ACCESS_STEPS, evictionRank } from '../../../src/database/eviction-order.ts';
import type { Rank } from './ranked-cache.ts';
import { DAY_MS } from './trace.ts';

/** What the product does, beside what else could be said as a rank. */
export const POLICIES: Readonly<Record<string, Rank>> = {
  'plain LRU': ({ lastAccess }) => lastAccess,
  // What was used once counts as a week older.
  probation: ({ lastAccess, accesses }) => lastAccess - (accesses < 2 ? 7 * DAY_MS : 0),
  // After S3-FIFO: two queues by the time of the fill; each use of the second one, up to three, is a round more.
  'like S3-FIFO': ({ storedAt, accesses }) =>
    storedAt + (accesses < 2 ? -3 : 3 * Math.min(accesses - 1, 3)) * DAY_MS,
  'by accesses alone': ({ lastAccess, accesses }) =>
    lastAccess + (ACCESS_STEPS.findLast(({ from }) => accesses >= from)?.bonusMs ?? 0),
  Snowcap: evictionRank,
};
