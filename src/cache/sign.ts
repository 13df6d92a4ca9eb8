import { fingerprint, type NarInfo } from '../nix/nar-info.ts';
import type { Signer } from '../nix/signing-key.ts';

/** More signatures than this of an upstream are not kept. */
const MOST_KEPT = 32;

/** The upstream's signatures first, then ours, each once. Ed25519 is deterministic, so equal texts are equal signatures. */
export async function withOwnSignatures(
  facts: Pick<NarInfo, 'storePath' | 'narHash' | 'narSize' | 'references' | 'signatures'>,
  signers: readonly Signer[],
): Promise<readonly string[]> {
  const message = fingerprint(facts);
  const own = await Promise.all(signers.map((signer) => signer.sign(message)));
  return [...new Set([...facts.signatures.slice(0, MOST_KEPT), ...own])];
}
