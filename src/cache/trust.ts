import type { Justification, PathRecord } from '../database/metadata-store.ts';
import { contentAddressBindsNarHash, contentAddressMatches } from '../nix/content-address.ts';
import { fingerprint, type NarInfo } from '../nix/nar-info.ts';
import { formatPublicKey, keyNameOf, type PublicKey, verifySignature } from '../nix/signing-key.ts';
import type { Upstreams } from '../upstream/upstreams.ts';

/** The part of a narinfo that is signed, with what may justify it. */
export type SignedFacts = Pick<
  NarInfo,
  'storePath' | 'narHash' | 'narSize' | 'references' | 'signatures' | 'ca'
>;

export type Judgement =
  | { readonly trusted: true; readonly justification: Justification }
  | { readonly trusted: false; readonly reason: string };

/** More signatures than this are not looked at: each costs a verification. */
const MOST_SIGNATURES = 32;

/**
 * Whether a path may be served, and why: a signature by a trusted key, whichever upstream it
 * came from; a content address that the store path follows from; or an upstream whose unsigned paths
 * were explicitly allowed.
 *
 * A content address counts only where it fixes the NarHash too (recursive SHA-256 without a self-reference). Beside any
 * other, a liar could put the NarHash of other content, which we would verify against, keep and sign.
 */
export async function judge(
  facts: SignedFacts,
  keys: ReadonlyMap<string, PublicKey>,
  unsignedUpstream: string | null,
): Promise<Judgement> {
  const message = fingerprint(facts);
  for (const signature of facts.signatures.slice(0, MOST_SIGNATURES)) {
    const key = await verifySignature(message, signature, keys);
    if (key !== null) {
      return { trusted: true, justification: { kind: 'key', publicKey: formatPublicKey(key) } };
    }
  }
  if (contentAddressBindsNarHash(facts) && (await contentAddressMatches(facts))) {
    return { trusted: true, justification: { kind: 'content-address' } };
  }
  if (unsignedUpstream !== null) {
    return { trusted: true, justification: { kind: 'unsigned-upstream', upstream: unsignedUpstream } };
  }
  return { trusted: false, reason: refusal(facts) };
}

/** Whether what justified a recorded path still holds under today's configuration. Does no cryptography. */
export function isStillJustified(
  path: Pick<PathRecord, 'justification'>,
  keys: ReadonlyMap<string, PublicKey>,
  unsignedUpstreams: ReadonlySet<string>,
): boolean {
  switch (path.justification.kind) {
    case 'key':
      return keys.has(path.justification.publicKey);
    case 'unsigned-upstream':
      return unsignedUpstreams.has(path.justification.upstream);
    case 'content-address':
    case 'pushed':
      return true;
  }
}

function refusal(facts: SignedFacts): string {
  if (facts.signatures.length === 0) return `${facts.storePath} has no signature`;
  const names = facts.signatures.slice(0, 4).map(keyNameOf);
  return `${facts.storePath} has no valid signature by a trusted key (it has: ${names.join(', ')})`;
}

/** Base URLs of the upstreams whose unsigned paths were explicitly allowed. */
export function unsignedUpstreamsOf({ upstreams }: { readonly upstreams: Upstreams }): ReadonlySet<string> {
  return new Set(
    upstreams
      .status()
      .filter((upstream) => upstream.allowUnsigned)
      .map((upstream) => upstream.url),
  );
}
