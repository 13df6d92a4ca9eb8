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
  await upkeep.spareEvicting(marked, platform.clock.now());
  const going = await stillEvicting(parts, marked);
  const spared = without(marked, going);
  if (options.resumed) await putRight(parts, spared);

  // Also of those that fail below: answers of the index are as good as before.
  parts.onPathsChanged(going.flatMap(({ hashes }) => hashes));
  await platform.checkpoint?.('evict:delete-narinfos');
  const bare = await deleteOf(parts, going, ({ hashes }) =>
    hashes.flatMap((hash) => [`${hash}.narinfo`, `${hash}.ls`]),
  );
  const doomed = await stillEvicting(parts, bare.done);
  await platform.checkpoint?.('evict:delete-nars');
  const deleted = await deleteOf(parts, doomed, ({ key }) => [key]);
  for (const { key } of deleted.done) parts.onRemoved(key);

  await platform.checkpoint?.('evict:finish');
  const finished = new Set(await upkeep.finishEvicting(deleted.done));
  const gone = deleted.done.filter(({ key }) => finished.has(key));
  const refilled = [...without(bare.done, doomed), ...without(deleted.done, gone)];
  await putRight(parts, refilled);
  return { gone, lost: [...spared, ...refilled], faulty: [...bare.failed, ...deleted.failed] };
}

/**
 * Those that no fill or push has stored anew: asked as late as can be, since what is deleted then is lost. What is
 * stored in the time that one deletion takes is noted as gone below.
 */
async function stillEvicting(
  { services: { upkeep } }: RemovalParts,
  nars: readonly EvictingNar[],
): Promise<readonly EvictingNar[]> {
  if (nars.length === 0) return [];
  const now = new Map((await upkeep.findNars(nars.map(({ key }) => key))).map((nar) => [nar.key, nar]));
  return nars.filter(({ key, generation }) => {
    const nar = now.get(key);
    return nar?.state === 'evicting' && nar.generation === generation;
  });
}

async function putRight(parts: RemovalParts, nars: readonly EvictingNar[]): Promise<void> {
  for (const { key } of nars) await putRowRight(parts, key);
}

/** A row may say present although its body, or its narinfos, were removed before it did. */
async function putRowRight(parts: RemovalParts, key: string): Promise<void> {
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

function without(all: readonly EvictingNar[], some: readonly EvictingNar[]): readonly EvictingNar[] {
  const left = new Set(some);
  return all.filter((one) => !left.has(one));
}
