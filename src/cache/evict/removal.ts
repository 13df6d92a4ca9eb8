import { ALL_PATHS_OF_NAR } from '../../database/metadata-store.ts';
import type { EvictingNar } from '../../database/upkeep-store.ts';
import { storeNarInfos } from '../fill/commit.ts';
import { noteMissingBody } from '../fill/missing-body.ts';
import type { CacheServices } from '../services.ts';

/** What became of bodies that were marked as evicting. */
export interface Removed {
  readonly gone: readonly EvictingNar[];
  /** A pin, a push or a fill came between. */
  readonly lost: readonly EvictingNar[];
  /** The storage failed: they stay as they are, for the next run. */
  readonly faulty: readonly EvictingNar[];
}

export interface RemovalParts {
  readonly services: CacheServices;
  readonly onPathsChanged: (hashes: readonly string[]) => void;
  /** Of the body of this key: what is in memory is forgotten. */
  readonly onRemoved: (key: string) => void;
}

/** After so many failures one after the other, the storage is not asked for the rest of a batch. */
const MOST_FAILURES = 3;

/**
 * Removes bodies that are marked as evicting, in the order in which a crash at any instant leaves no narinfo without
 * its NAR (law 8): their narinfos, the NARs, the rows.
 *
 * A fill that comes between may have met the old body, and written the row after it: one of the two looks after both
 * have written, here or in `commit`, and notes that the body is gone.
 *
 * @param options.resumed whether an earlier run may have removed parts of them
 * @throws what the index throws
 */
export async function removeMarked(
  parts: RemovalParts,
  marked: readonly EvictingNar[],
  options: { readonly resumed: boolean },
): Promise<Removed> {
  const { upkeep, platform } = parts.services;
  if (marked.length === 0) return { gone: [], lost: [], faulty: [] };
  await platform.checkpoint?.('evict:spare');
  const spared = new Set(await upkeep.spareEvicting(marked, platform.clock.now()));
  const [lost, going] = split(marked, ({ key }) => spared.has(key));
  if (options.resumed) for (const { key } of lost) await putRight(parts, key);

  // Also of those that fail below: answers of the index are as good as before.
  parts.onPathsChanged(going.flatMap(({ hashes }) => hashes));
  await platform.checkpoint?.('evict:delete-narinfos');
  const bare = await deleteOf(parts, going, ({ hashes }) =>
    hashes.flatMap((hash) => [`${hash}.narinfo`, `${hash}.ls`]),
  );
  await platform.checkpoint?.('evict:delete-nars');
  const deleted = await deleteOf(parts, bare.done, ({ key }) => [key]);
  for (const { key } of deleted.done) parts.onRemoved(key);

  await platform.checkpoint?.('evict:finish');
  const finished = new Set(await upkeep.finishEvicting(deleted.done));
  const [gone, refilled] = split(deleted.done, ({ key }) => finished.has(key));
  for (const { key } of refilled) await putRight(parts, key);
  return { gone, lost: [...lost, ...refilled], faulty: [...bare.failed, ...deleted.failed] };
}

/** A row may say present although its body, or its narinfos, were removed before it did. */
async function putRight(parts: RemovalParts, key: string): Promise<void> {
  const { metadata, storage, platform } = parts.services;
  try {
    const named = await metadata.getNar(key, ALL_PATHS_OF_NAR);
    if (named === null || named.nar.state !== 'present') return;
    const stored = await storage.head(key);
    const { fileHash } = named.nar;
    if (stored === null) await noteMissingBody(parts, named.nar);
    else if (fileHash !== null) await storeNarInfos(parts, key, { fileHash, fileSize: stored.size });
  } catch (error) {
    platform.logger.error('A body that an eviction met on its way in could not be looked after', {
      key,
      error,
    });
  }
}

/** A list says of one object alone that it failed: then each body is tried for itself. */
async function deleteOf(
  { services: { storage, platform } }: RemovalParts,
  nars: readonly EvictingNar[],
  keysOf: (nar: EvictingNar) => readonly string[],
): Promise<{ readonly done: readonly EvictingNar[]; readonly failed: readonly EvictingNar[] }> {
  try {
    await storage.delete(nars.flatMap(keysOf));
    return { done: nars, failed: [] };
  } catch (error) {
    platform.logger.warn('The storage did not delete what an eviction removes: each body is tried alone', {
      bodies: nars.length,
      error,
    });
  }
  const done: EvictingNar[] = [];
  const failed: EvictingNar[] = [];
  let inARow = 0;
  for (const nar of nars) {
    if (inARow < MOST_FAILURES) {
      try {
        await storage.delete(keysOf(nar));
        done.push(nar);
        inARow = 0;
        continue;
      } catch (error) {
        inARow += 1;
        platform.logger.error('A body that is to go could not be removed', { key: nar.key, error });
      }
    }
    failed.push(nar);
  }
  return { done, failed };
}

function split<T>(
  all: readonly T[],
  isFirst: (one: T) => boolean,
): readonly [first: readonly T[], rest: readonly T[]] {
  return [all.filter(isFirst), all.filter((one) => !isFirst(one))];
}
