import { ALL_PATHS_OF_NAR, type StoredNar } from '../../database/metadata-store.ts';
import type { Claim } from './claim.ts';
import type { VerifiedBody } from './body-verifier.ts';
import type { FillContext } from './fills.ts';
import type { Flight } from './flight.ts';
import { storeNarInfo } from '../store-nar-info.ts';
import { isStillJustified, unsignedUpstreamsOf } from '../trust.ts';

/** As Nix itself labels them. */
const NAR_CONTENT_TYPE = 'application/x-nix-nar';

/**
 * Makes a verified body present: the NAR, then the narinfos of the paths that claim it, then the
 * index row (the order of writes of the storage layout). Readers have the body already: whatever fails here is
 * logged and costs a later download, never an answer.
 */
export async function commit(
  context: FillContext,
  claim: Claim,
  flight: Flight,
  verified: VerifiedBody,
): Promise<void> {
  const { platform } = context.services;
  const { key } = claim.nar;
  try {
    if (flight.spoolFault !== undefined) throw flight.spoolFault;
    // Nobody could tell before: neither a FileSize nor a Content-Length was given.
    if (verified.fileSize > context.services.settings.maxBodySize) return;
    await store(context, claim, flight, verified);
  } catch (error) {
    platform.metrics.count('snowcap_background_failures_total', { what: 'commit' });
    platform.logger.error('A verified body could not be stored', { key, error });
  }
}

async function store(
  context: FillContext,
  claim: Claim,
  flight: Flight,
  verified: VerifiedBody,
): Promise<void> {
  const { storage, platform, metadata, settings } = context.services;
  const { key } = claim.nar;
  await platform.checkpoint?.('fill:store-nar');
  const put = await storage.put(key, flight.file.source(), {
    contentType: NAR_CONTENT_TYPE,
    ifAbsent: true,
    mayVanish: true,
  });
  if (!put.written && (put.size !== verified.fileSize || claim.expected.fileHash === null)) {
    // Somebody stored other bytes first, or bytes that only a look at them can tell: the first wins.
    platform.logger.warn('Another writer stored this NAR first; what it stored is verified', { key });
    context.verification.schedule(key);
    return;
  }
  const stored: StoredNar = { ...verified, at: platform.clock.now() };
  await storeNarInfos(context, key, stored);
  await platform.checkpoint?.('fill:index');
  const generation = await metadata.markPresent(key, stored);
  if (generation === null) {
    await context.verification.remove(key);
    return;
  }
  context.onPresent(key);
  if (verified.verification === 'file' && settings.verify === 'nar') context.verification.schedule(key);
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
