import type { PathWithNar } from '../database/metadata-store.ts';
import type { BucketTrust } from './bucket-trust.ts';
import { rejustify } from './find-path.ts';
import { isStorePathHash } from '../nix/store-path.ts';
import { rootKeys } from './root-keys.ts';
import type { CacheServices } from './services.ts';
import { storeNarInfoOfPresent } from './store-nar-info.ts';
import { isStillJustified, unsignedUpstreamsOf } from './trust.ts';

const PAGE = 100;
const NAR_INFO = '.narinfo';

/**
 * A key that is no longer trusted takes its paths with it. Answers mind that by themselves, path by path; this
 * removes their narinfos from the bucket as well, where a plain client or a Snowcap without index would go on
 * to read them. The narinfos of paths that are trusted again come back. Does nothing while the trusted keys are the
 * same as last time.
 *
 * @returns how many paths were withdrawn
 */
export async function withdrawUntrusted(
  services: CacheServices,
  bucketTrust: BucketTrust,
  onPathsChanged: (hashes: readonly string[]) => void,
): Promise<number> {
  const { storage, metadata, platform, trustedKeys } = services;
  const unsigned = unsignedUpstreamsOf(services);
  if ((await bucketTrust.checked()) !== null) return 0;
  let withdrawn = 0;
  let after = 0;
  for (;;) {
    const page = await metadata.listPaths(after, PAGE);
    const end = page.at(-1);
    if (end === undefined) break;
    after = end.path.id;
    const gone: string[] = [];
    for (const known of page) {
      const justified = isStillJustified(known.path, trustedKeys, unsigned)
        ? known
        : await rejustify(services, known, unsigned);
      if (justified === null) gone.push(known.path.hash);
      else await restoreNarInfo(services, justified);
    }
    await storage.delete(gone.flatMap((hash) => [`${hash}.narinfo`, `${hash}.ls`]));
    onPathsChanged(gone);
    withdrawn += gone.length;
    // Other work goes first: this may walk over a million rows.
    await platform.clock.sleep(0);
  }
  await bucketTrust.record((await isAllKnown(services)) ? 'all' : 'known');
  if (withdrawn > 0) {
    platform.logger.warn('Paths were withdrawn: the keys that signed them are not trusted any more', {
      withdrawn,
    });
  }
  return withdrawn;
}

/** Whether the index knows every path that has a narinfo in the bucket: an empty one, as after a loss, has checked none. */
async function isAllKnown({ storage, upkeep }: Pick<CacheServices, 'storage' | 'upkeep'>): Promise<boolean> {
  let hashes: string[] = [];
  const areKnown = async (): Promise<boolean> => (await upkeep.findPaths(hashes)).length === hashes.length;
  for await (const { key } of rootKeys(storage)) {
    const hash = key.endsWith(NAR_INFO) ? key.slice(0, -NAR_INFO.length) : '';
    if (!isStorePathHash(hash)) continue;
    hashes.push(hash);
    if (hashes.length < PAGE) continue;
    if (!(await areKnown())) return false;
    hashes = [];
  }
  return await areKnown();
}

/** Its key may have been withdrawn before, and its narinfo with it; the body has stayed. */
async function restoreNarInfo(services: CacheServices, known: PathWithNar): Promise<void> {
  if (known.nar.state !== 'present') return;
  if ((await services.storage.head(`${known.path.hash}.narinfo`)) !== null) return;
  if ((await services.storage.head(known.nar.key)) !== null) await storeNarInfoOfPresent(services, known);
}
