import {
  BannedPathError,
  type NewNar,
  type NarRecord,
  type NewPath,
  type PathRecord,
  type PathWithNar,
} from '../database/metadata-store.ts';
import { type Compression, isCompression } from '../nar/decompress.ts';
import type { NarInfo } from '../nix/nar-info.ts';
import { keyNameOf } from '../nix/signing-key.ts';
import { parseStorePath } from '../nix/store-path.ts';
import { traced } from '../telemetry/tracing.ts';
import type { Acceptance, NarInfoOffer } from '../upstream/upstreams.ts';
import { CacheError } from './errors.ts';
import { faultOf } from './faults.ts';
import { derivedKeyOf, narKeyOf, parseDerivedKey } from './nar-key.ts';
import type { NegativeMemory } from './negative-memory.ts';
import type { CacheServices } from './services.ts';
import { storeNarInfoOfPresent } from './store-nar-info.ts';
import { withOwnSignatures } from './sign.ts';
import { isStillJustified, judge, type Judgement, unsignedUpstreamsOf } from './trust.ts';

/**
 * Finds what is known of a store path: in the index, else at the upstreams, whose answer is verified
 * and recorded before anybody sees it. The first recorded answer wins.
 */
export interface PathFinder {
  /**
   * @param hash hash part of the store path
   * @throws CacheError where the index or every upstream is at fault: never a `missing`
   */
  find(hash: string): Promise<FoundPath>;
}

export type FoundPath =
  | { readonly kind: 'found'; readonly known: PathWithNar; readonly from: 'index' | 'upstream' }
  /** Every upstream that counts said no, just now (`upstream`) or a short while ago (`memory`). */
  | { readonly kind: 'missing'; readonly from: 'upstream' | 'memory' };

/** What an accepted narinfo becomes in the index. */
interface Offer {
  readonly path: NewPath;
  readonly nar: NewNar;
}

export function createPathFinder(services: CacheServices, negative: NegativeMemory): PathFinder {
  const underway = new Map<string, Promise<FoundPath>>();
  const unsignedUpstreams = unsignedUpstreamsOf(services);

  async function find(hash: string): Promise<FoundPath> {
    const recorded = await indexed('look up a path', () => services.metadata.getPath(hash));
    if (recorded === null) return await askUpstreams(hash, null);
    const usable = await stillUsable(recorded);
    if (usable !== null && !isGone(usable.nar)) return { kind: 'found', known: usable, from: 'index' };
    return await askUpstreams(hash, recorded);
  }

  /** The record if it may be served under today's trust; null where it must be fetched anew. */
  async function stillUsable(recorded: PathWithNar): Promise<PathWithNar | null> {
    const { path, nar } = recorded;
    if (nar.state === 'quarantined') return null;
    if (isStillJustified(path, services.trustedKeys, unsignedUpstreams)) return recorded;
    return await rejustify(services, recorded, unsignedUpstreams);
  }

  async function askUpstreams(hash: string, outdated: PathWithNar | null): Promise<FoundPath> {
    if (negative.has(hash)) return { kind: 'missing', from: 'memory' };
    const result = await services.upstreams.findNarInfo(hash, (offer) => accept(offer, outdated));
    switch (result.kind) {
      case 'fault':
        throw faultOf(result.fault);
      case 'missing':
        if (result.refused.length > 0) {
          services.platform.logger.warn('No upstream has a narinfo that may be served', {
            hash,
            refused: result.refused,
          });
        }
        negative.add(hash);
        return { kind: 'missing', from: 'upstream' };
      case 'found': {
        const known = await record(result.value, outdated?.path ?? null);
        if (known === null) {
          negative.add(hash);
          return { kind: 'missing', from: 'upstream' };
        }
        const usable = await withSource(await stillUsable(known), result.value);
        if (usable === null) return { kind: 'missing', from: 'upstream' };
        // Its NAR came with another path: the bucket shall have this narinfo too (law 8). Only now: the row may be
        // one that another instance recorded first, which trusts other keys.
        if (usable.nar.state === 'present') {
          services.platform.defer('store a narinfo', storeNarInfoOfPresent(services, usable));
        }
        return { kind: 'found', known: usable, from: 'upstream' };
      }
    }
  }

  /**
   * A NAR that was pushed here and has gone, and that this upstream has in the very same encoding, can be had again.
   *
   * @returns null where the stored one, which another instance has recorded, cannot
   */
  async function withSource(usable: PathWithNar | null, { nar }: Offer): Promise<PathWithNar | null> {
    if (usable === null || usable.nar.source !== null || usable.nar.state === 'present') return usable;
    const { source } = nar;
    if (usable.nar.key !== nar.key || source === null) return null;
    await indexed('record where a NAR can be had', () => services.upkeep.markObtainable(nar.key, source));
    return { ...usable, nar: { ...usable.nar, source } };
  }

  async function accept(offer: NarInfoOffer, outdated: PathWithNar | null): Promise<Acceptance<Offer>> {
    const { info, upstream, allowUnsigned } = offer;
    if (!isCompression(info.compression)) {
      return refused(
        `${upstream} gives compression ${JSON.stringify(info.compression)}, which cannot be verified`,
      );
    }
    const key = await keyFor(info, info.compression);
    if (key === null || (outdated?.nar.key === key && outdated.nar.state === 'quarantined')) {
      return refused(`the body that ${upstream} gives for ${info.storePath} was found to be wrong`);
    }
    const judgement = await traced('verify narinfo', { 'snowcap.upstream': upstream }, () =>
      judge(info, services.trustedKeys, allowUnsigned ? upstream : null),
    );
    if (!judgement.trusted) {
      services.platform.metrics.count('snowcap_verification_failures_total', { reason: 'signature' });
      return refused(`${upstream}: ${judgement.reason}`);
    }
    const signatures = await withOwnSignatures(info, services.signers);
    return {
      accepted: true,
      value: {
        path: {
          ...factsOf(info),
          signatures,
          justification: judgement.justification,
          origin: upstream,
          recordedAt: services.platform.clock.now(),
        },
        nar: narOf(info, info.compression, key, upstream),
      },
    };
  }

  /**
   * URL and FileHash are outside what is signed: a narinfo may point at another path's NAR. Where two paths claim one
   * FileHash with different NarHashes, one of them is wrong. Which one, the body tells when it is verified. Before that
   * the second path gets a key of its own: nobody makes a path missing by naming its NAR first.
   *
   * @returns null where the body is known not to be this NAR
   */
  async function keyFor(info: NarInfo, compression: Compression): Promise<string | null> {
    const key = narKeyOf(info, compression);
    if (parseDerivedKey(key) !== null) return key;
    const known = await indexed('look up a NAR', () => services.metadata.getNar(key));
    if (known === null) return key;
    const { nar, paths } = known;
    const wrong = nar.state === 'quarantined';
    if (paths.some((path) => path.narHash === info.narHash)) return wrong ? null : key;
    if (paths.length === 0 && !wrong) return key;
    return nar.verification === 'nar' && !wrong ? null : derivedKeyOf(info, compression);
  }

  /** @returns null where the path is banned */
  async function record(offer: Offer, outdated: PathRecord | null): Promise<PathWithNar | null> {
    return await indexed('record a path', async () => {
      try {
        return outdated === null
          ? await services.metadata.recordPath(offer.path, offer.nar)
          : await services.metadata.replacePath(offer.path, offer.nar, outdated.revision);
      } catch (error) {
        if (error instanceof BannedPathError) return null;
        throw error;
      }
    });
  }

  return {
    find(hash) {
      const running = underway.get(hash);
      if (running !== undefined) return running;
      const lookup = find(hash).finally(() => underway.delete(hash));
      underway.set(hash, lookup);
      return lookup;
    },
  };
}

/**
 * Verifies a recorded path against the keys trusted today, by the signatures that were kept, and
 * records what justifies it now.
 *
 * @returns null where nothing does
 */
export async function rejustify(
  services: CacheServices,
  recorded: PathWithNar,
  unsignedUpstreams: ReadonlySet<string>,
): Promise<PathWithNar | null> {
  const { path, nar } = recorded;
  const judgement = await judgeRecorded(services, path, unsignedUpstreams);
  if (!judgement.trusted) return null;
  const change = { signatures: path.signatures, justification: judgement.justification };
  const changed = await indexed('justify a path anew', () =>
    services.metadata.rejustifyPath(path.hash, path.revision, change),
  );
  if (changed) return { path: { ...path, ...change, revision: path.revision + 1 }, nar };
  // Somebody else wrote first, perhaps with other trusted keys than ours: theirs must hold here too.
  const theirs = await indexed('look up a path', () => services.metadata.getPath(path.hash));
  if (theirs === null || theirs.nar.state === 'quarantined') return null;
  return isStillJustified(theirs.path, services.trustedKeys, unsignedUpstreams) ? theirs : null;
}

/** Judges a recorded path by the signatures that were kept and the keys trusted today. Writes nothing. */
export async function judgeRecorded(
  services: Pick<CacheServices, 'signers' | 'trustedKeys'>,
  path: PathRecord,
  unsignedUpstreams: ReadonlySet<string>,
): Promise<Judgement> {
  // Our own signature proves only that we once trusted somebody: it must not keep a path alive whose
  // upstream key was withdrawn.
  const own = new Set(services.signers.map((signer) => signer.publicKey.name));
  const foreign = path.signatures.filter((signature) => !own.has(keyNameOf(signature)));
  const allowedUpstream = path.origin !== null && unsignedUpstreams.has(path.origin) ? path.origin : null;
  return await judge({ ...path, signatures: foreign }, services.trustedKeys, allowedUpstream);
}

/**
 * Runs an operation of the index; whatever it throws becomes the fault that clients see: also an error that the
 * driver did not foresee must not keep hits from being answered by the bucket (law 6).
 *
 * @throws CacheError `index_unavailable`
 */
export async function indexed<T>(what: string, operation: () => Promise<T>): Promise<T> {
  try {
    return await operation();
  } catch (error) {
    throw new CacheError('fault', 'index_unavailable', `The index could not ${what}`, { cause: error });
  }
}

function factsOf(info: NarInfo): Omit<NewPath, 'signatures' | 'justification' | 'origin' | 'recordedAt'> {
  const storeDir = info.storePath.slice(0, info.storePath.lastIndexOf('/'));
  return {
    hash: parseStorePath(info.storePath, storeDir).hash,
    storePath: info.storePath,
    narHash: info.narHash,
    narSize: info.narSize,
    references: info.references,
    deriver: info.deriver,
    ca: info.ca,
    extra: info.extra,
  };
}

function narOf(info: NarInfo, compression: Compression, key: string, upstream: string): NewNar {
  return {
    key,
    compression,
    fileHash: info.fileHash,
    fileSize: info.fileSize,
    source: { upstream, url: info.url },
  };
}

/** Nobody is known to have it: only storage had, and has it no more. */
function isGone({ source, state }: NarRecord): boolean {
  return source === null && state !== 'present';
}

function refused<T>(reason: string): Acceptance<T> {
  return { accepted: false, reason };
}
