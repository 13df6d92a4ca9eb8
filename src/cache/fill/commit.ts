import { ALL_PATHS_OF_NAR, type StoredNar } from '../../database/metadata-store.ts';
import type { PutResult } from '../../storage/blob-store.ts';
import type { Claim } from './claim.ts';
import type { VerifiedBody } from './body-verifier.ts';
import type { FillContext } from './fills.ts';
import { noteMissingBody } from './missing-body.ts';
import { storeNarInfo } from '../store-nar-info.ts';
import { isStillJustified, unsignedUpstreamsOf } from '../trust.ts';

/** What became of a verified body. */
export type Committed =
  /** Present, by us. */
  | { readonly kind: 'stored' }
  /** Another writer was first: what it stored is verified before it counts. */
  | { readonly kind: 'second' }
  /** Its key was found to be wrong in the meantime: it was removed again. */
  | { readonly kind: 'quarantined' }
  /** What another writer had stored was evicted in the meantime. */
  | { readonly kind: 'evicted' };

/**
 * Makes a verified body present: the NAR, then the narinfos of the paths that claim it, then the index row (the order
 * of writes of the storage layout).
 *
 * @param put stores the body; only if it is absent
 * @throws what the storage and the index throw
 */
export async function commit(
  context: Pick<FillContext, 'services' | 'verification' | 'onPathsChanged' | 'onPresent'>,
  claim: Claim,
  put: () => Promise<PutResult>,
  verified: VerifiedBody,
): Promise<Committed> {
  const { platform, metadata, storage, settings } = context.services;
  const { key } = claim.nar;
  const result = await put();
  if (!result.written && (result.size !== verified.fileSize || claim.expected.fileHash === null)) {
    // Somebody stored other bytes first, or bytes that only a look at them can tell: the first wins.
    platform.logger.warn('Another writer stored this NAR first; what it stored is verified', { key });
    context.verification.schedule(key);
    return { kind: 'second' };
  }
  const stored: StoredNar = { ...verified, at: platform.clock.now() };
  await storeNarInfos(context, key, stored);
  await platform.checkpoint?.('fill:index');
  const generation = await metadata.markPresent(key, stored);
  if (generation === null) {
    await context.verification.remove(key);
    return { kind: 'quarantined' };
  }
  if (!result.written && (await storage.head(key)) === null) {
    // An eviction met the old body: it looks after its last write too, so that one of the two sees this.
    const known = await metadata.getNar(key, 1);
    if (known !== null) await noteMissingBody(context, known.nar);
    return { kind: 'evicted' };
  }
  context.onPresent(key, stored.fileSize);
  if (verified.verification === 'file' && settings.verify === 'nar') context.verification.schedule(key);
  return { kind: 'stored' };
}

/** Writes the narinfo of every path that claims the NAR, with what is known of the body now. */
export async function storeNarInfos(
  context: Pick<FillContext, 'services' | 'onPathsChanged'>,
  key: string,
  stored: Pick<StoredNar, 'fileHash' | 'fileSize'>,
): Promise<void> {
  const { metadata } = context.services;
  const named = await metadata.getNar(key, ALL_PATHS_OF_NAR);
  if (named === null) return;
  const nar = { ...named.nar, fileHash: stored.fileHash, fileSize: stored.fileSize };
  const unsigned = unsignedUpstreamsOf(context.services);
  for (const path of named.paths) {
    // A path whose key was withdrawn shares the body, but a client of the bucket shall not meet it.
    if (!isStillJustified(path, context.services.trustedKeys, unsigned)) continue;
    await storeNarInfo(context.services, { path, nar });
  }
  context.onPathsChanged(named.paths.map((path) => path.hash));
}
