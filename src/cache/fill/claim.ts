import type { NarRecord, NewNar, NewPath } from '../../database/metadata-store.ts';
import { type Compression, isCompression } from '../../nar/decompress.ts';
import type { NarInfo } from '../../nix/nar-info.ts';
import { faultOf } from '../faults.ts';
import { indexed, type PathFinder } from '../find-path.ts';
import { derivedKeyOf, narKeyOf, parseDerivedKey } from '../nar-key.ts';
import type { CacheServices } from '../services.ts';
import { judge } from '../trust.ts';
import type { ExpectedBody } from './body-verifier.ts';

/** A NAR with a path that vouches for it: what its body is verified against. */
export interface Claim {
  readonly nar: NewNar;
  readonly path: ClaimingPath;
  readonly expected: ExpectedBody;
}

/** What counts of the path that vouches for a NAR. */
export type ClaimingPath = Pick<NewPath, 'hash' | 'storePath' | 'narHash' | 'narSize'>;

export type ClaimAnswer =
  | { readonly kind: 'claimed'; readonly claim: Claim; readonly recorded: NarRecord }
  /** The index has another NAR of this path; an upstream still gives the one of this key. It is verified, never stored. */
  | { readonly kind: 'other encoding'; readonly claim: Claim }
  /** No path that may be served names this key: a body may pass through, but is never stored. */
  | { readonly kind: 'unclaimed' }
  /** The body under this key was found to be wrong. */
  | { readonly kind: 'quarantined' };

/**
 * Finds the path that claims a NAR key: by the index, or, for a key that names its store path, by asking
 * the upstreams anew, so that a URL stays good with an empty index too (law 3).
 *
 * @throws CacheError where the index or the upstreams are at fault
 */
export async function findClaim(
  services: CacheServices,
  paths: PathFinder,
  key: string,
): Promise<ClaimAnswer> {
  const named = await indexed('look up a NAR', () => services.metadata.getNar(key));
  if (named?.nar.state === 'quarantined') return { kind: 'quarantined' };
  const derived = parseDerivedKey(key);
  const hashes = new Set((named?.paths ?? []).map((path) => path.hash));
  if (derived !== null) hashes.add(derived.storeHash);
  for (const hash of hashes) {
    // Goes through the finder, so that a path whose key is no longer trusted is verified anew first.
    const found = await paths.find(hash);
    if (found.kind === 'missing') continue;
    const { nar, path } = found.known;
    if (nar.key === key) return { kind: 'claimed', claim: claimOf(nar, path), recorded: nar };
    if (hash !== derived?.storeHash) continue;
    const claim = await otherEncoding(services, key, hash);
    if (claim !== null) return { kind: 'other encoding', claim };
  }
  return { kind: 'unclaimed' };
}

/**
 * Another instance, or an index that was lost, may have met another upstream first, and given its encoding: that URL
 * stays good too, as long as an upstream that may be believed has a NAR of this key (law 3).
 */
async function otherEncoding(services: CacheServices, key: string, hash: string): Promise<Claim | null> {
  const result = await services.upstreams.findNarInfo<Claim>(
    hash,
    async ({ info, upstream, allowUnsigned }) => {
      const { compression } = info;
      if (!isCompression(compression) || !keysOf(info, compression).includes(key)) {
        return { accepted: false, reason: `${info.storePath} has another NAR here` };
      }
      const judgement = await judge(info, services.trustedKeys, allowUnsigned ? upstream : null);
      if (!judgement.trusted) return { accepted: false, reason: judgement.reason };
      const { fileHash, fileSize, storePath, narHash, narSize } = info;
      const nar = { key, compression, fileHash, fileSize, source: { upstream, url: info.url } };
      return { accepted: true, value: claimOf(nar, { hash, storePath, narHash, narSize }) };
    },
  );
  if (result.kind === 'fault') throw faultOf(result.fault);
  return result.kind === 'found' ? result.value : null;
}

/** Every key that a NAR may have been given: which one depends on what the upstream told, and on who came first. */
function keysOf(info: NarInfo, compression: Compression): readonly string[] {
  return [narKeyOf(info, compression), derivedKeyOf(info, compression)];
}

function claimOf(nar: NewNar, path: ClaimingPath): Claim {
  // What is not compressed is the NAR itself: what is signed tells its hash and size.
  const plain = nar.compression === 'none';
  return {
    nar,
    path,
    expected: {
      key: nar.key,
      compression: nar.compression,
      fileHash: nar.fileHash ?? (plain ? path.narHash : null),
      fileSize: nar.fileSize ?? (plain ? path.narSize : null),
      narHash: path.narHash,
      narSize: path.narSize,
    },
  };
}
