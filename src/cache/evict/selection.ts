import type { Evictable, UpkeepStore } from '../../database/upkeep-store.ts';
import type { KeysInUse } from './in-use.ts';
import { add, type EvictionCandidate, type Growing, type KeptBytes, type PassedOver } from './report.ts';

/** Bodies of a page: its narinfos and listings are two requests to S3. */
export const PAGE = 200;

/** What a selection looks at. */
export interface SelectionParts {
  readonly upkeep: Pick<UpkeepStore, 'listEvictable'>;
  readonly inUse: KeysInUse;
  readonly pushed: boolean;
  /** Bodies that were used at this time or later are left out; milliseconds since the epoch. */
  readonly accessedBefore: number;
  /** Milliseconds since the epoch. */
  readonly now: number;
  readonly onCandidate: (candidate: EvictionCandidate) => void;
  readonly passedOver: Growing<PassedOver>;
}

/** One walk over the bodies of a kind, in the order in which they are to go. */
export interface Selection {
  /** The last ones that stayed since a pushed path refers to them, in order. Whoever evicts some of them takes them out. */
  referred: readonly Evictable[];
  /**
   * The next ones that nothing keeps, as many as free so many bytes, of one page at most; null at the end. May be empty
   * before that.
   *
   * @param most bodies
   */
  next(bytes: number, most: number): Promise<readonly Evictable[] | null>;
}

/** As many are kept at hand for when their referrers have gone: those are seldom much younger. */
const MOST_REFERRED = 1000;

export function createSelection(parts: SelectionParts): Selection {
  const { upkeep, inUse, pushed, accessedBefore, now, onCandidate, passedOver } = parts;
  let after: { readonly rank: number; readonly id: number } | null = null;
  const selection: Selection = {
    referred: [],
    async next(bytes, most) {
      const page = await upkeep.listEvictable({ pushed, after, accessedBefore, now, limit: PAGE });
      if (page.length === 0) return null;
      const chosen: Evictable[] = [];
      const referred = [...selection.referred];
      let freed = 0;
      for (const one of page) {
        if (freed >= bytes || chosen.length === most) break;
        after = { rank: one.rank, id: one.nar.id };
        const verdict = verdictOn(one, inUse);
        onCandidate(candidateOf(one, pushed, verdict));
        if (verdict === 'goes') {
          chosen.push(one);
          freed += sizeOf(one);
        } else {
          add(passedOver[verdict], sizeOf(one));
          if (verdict === 'referred') referred.push(one);
        }
      }
      selection.referred = referred.slice(-MOST_REFERRED);
      return chosen;
    },
  };
  return selection;
}

/**
 * What keeps bodies where all has gone that may go. A walk over what an upstream could give again: that is what is
 * pinned of it, and what came in the last minutes.
 *
 * @param left bytes that are there (in a dry run, with what would go of these), without those that the storage failed to
 *   delete
 * @param isOver ends it: what was not looked at counts as pushed
 */
export async function keptBytes(
  parts: Pick<SelectionParts, 'inUse' | 'accessedBefore' | 'now'> & {
    readonly upkeep: Pick<UpkeepStore, 'listEvictable' | 'pinnedTotals'>;
  },
  left: number,
  isOver: () => boolean,
): Promise<KeptBytes> {
  const { upkeep, inUse, accessedBefore, now } = parts;
  const pinned = (await upkeep.pinnedTotals(now)).presentBytes;
  const obtainable = { pinned: 0, inUse: 0, recent: 0, rest: 0 };
  let after: { readonly rank: number; readonly id: number } | null = null;
  while (!isOver()) {
    const page: readonly Evictable[] = await upkeep.listEvictable({
      pushed: false,
      after,
      accessedBefore: Number.MAX_SAFE_INTEGER,
      now,
      limit: PAGE,
    });
    const last = page.at(-1);
    if (last === undefined) break;
    after = { rank: last.rank, id: last.nar.id };
    for (const one of page) {
      const verdict = verdictOn(one, inUse);
      if (verdict === 'pinned') obtainable.pinned += sizeOf(one);
      else if (verdict === 'in_use') obtainable.inUse += sizeOf(one);
      else if (one.nar.lastAccess >= accessedBefore) obtainable.recent += sizeOf(one);
      else obtainable.rest += sizeOf(one);
    }
  }
  const { inUse: used, recent, rest } = obtainable;
  const pushed = left - pinned - used - recent - rest;
  return { pinned, inUse: used, recent, pushed: Math.max(0, pushed) };
}

/** The first ones that free so many bytes together, or all. */
export function upTo(all: readonly Evictable[], bytes: number): readonly Evictable[] {
  const chosen: Evictable[] = [];
  let freed = 0;
  for (const one of all) {
    if (freed >= bytes) break;
    chosen.push(one);
    freed += sizeOf(one);
  }
  return chosen;
}

/** In bytes. */
export function sizeOf({ nar }: Evictable): number {
  return nar.fileSize ?? 0;
}

function verdictOn({ nar, keptBy }: Evictable, inUse: KeysInUse): EvictionCandidate['verdict'] {
  if (keptBy === 'pin') return 'pinned';
  if (keptBy === 'referrer') return 'referred';
  return inUse.has(nar.key) ? 'in_use' : 'goes';
}

function candidateOf(
  { nar, accesses }: Evictable,
  pushed: boolean,
  verdict: EvictionCandidate['verdict'],
): EvictionCandidate {
  const { key, lastAccess } = nar;
  return { key, size: nar.fileSize ?? 0, lastAccess, accesses, pushed, verdict };
}
