import { encodeNix32 } from './base32.ts';
import { FormatError } from './format-error.ts';
import { formatHash, isHashAlgorithm, parseHash } from './hash.ts';
import type { Hash } from './hash.ts';

/**
 * How the content of a path was hashed: `text` and `flat` the bytes of a single file, `nar` the NAR
 * (a self-reference blanked out).
 */
type IngestionMethod = 'text' | 'flat' | 'nar';

/** The `CA` of a narinfo. */
export interface ContentAddress {
  readonly method: IngestionMethod;
  readonly hash: Hash;
}

/** The fields of a narinfo that a content address is checked against. */
export interface ContentAddressedPath {
  /** The full store path. */
  readonly storePath: string;
  readonly ca: string | null;
  /** Base names. */
  readonly references: readonly string[];
  /** `sha256:<nix32>` */
  readonly narHash: string;
}

/**
 * Reads a content address: `text:<hash>`, `fixed:<hash>` or `fixed:r:<hash>`, each hash with its algorithm
 * (`src/libstore/content-address.cc` in Nix).
 *
 * @returns null if it is of another kind: `fixed:git:` is experimental, and later ones may follow
 * @throws FormatError if it is malformed
 */
export function parseContentAddress(text: string): ContentAddress | null {
  const colon = text.indexOf(':');
  if (colon <= 0 || text.includes(' ')) {
    throw new FormatError('content address', 'CA', text, 'expected "<kind>:<hash>"');
  }
  const kind = text.slice(0, colon);
  const rest = text.slice(colon + 1);
  if (kind === 'text') return { method: 'text', hash: readHash(text, rest) };
  if (kind !== 'fixed') return null;
  if (rest.startsWith('r:')) return { method: 'nar', hash: readHash(text, rest.slice(2)) };

  const next = rest.indexOf(':');
  const isOtherMethod = rest.includes(':', next + 1) && next > 0 && !isHashAlgorithm(rest.slice(0, next));
  return isOtherMethod ? null : { method: 'flat', hash: readHash(text, rest) };
}

function readHash(whole: string, text: string): Hash {
  if (!text.includes(':')) {
    throw new FormatError('content address', 'CA', whole, 'expected "<algorithm>:<digest>" at its end');
  }
  try {
    return parseHash(text);
  } catch (error) {
    throw error instanceof FormatError ? new FormatError('content address', 'CA', whole, error.why) : error;
  }
}

/**
 * Whether the store path follows from its content address and references, so that it needs no
 * signature: the path is computed anew as Nix does (`makeFixedOutputPathFromCA` in `src/libstore/store-dir-config.cc`).
 *
 * It proves the path and the hash in its `CA` to each other. NarHash is bound too where it is the
 * same hash, which `contentAddressBindsNarHash` tells; for every other kind the caller must check the hash of
 * `CA` on the content itself before that NarHash is believed or signed, as a Nix client does when it imports
 * the path: whoever wrote the narinfo may have put the NarHash of other content beside a true `CA`.
 *
 * @returns false if there is no content address, or it is malformed or of an unknown kind
 */
export async function contentAddressMatches(info: ContentAddressedPath): Promise<boolean> {
  if (info.ca === null) return false;
  const address = addressOf(info.ca);
  if (address === null) return false;

  const slash = info.storePath.lastIndexOf('/');
  const storeDir = info.storePath.slice(0, slash);
  const self = info.storePath.slice(slash + 1);
  const others = [...new Set(info.references)].filter((reference) => reference !== self).sort();
  const hasSelf = info.references.includes(self);
  if (isNarSha256(address) && !hasSelf && formatHash(address.hash, 'nix32') !== info.narHash) return false;

  const kind = await pathKind(address, storeDir, others, hasSelf);
  if (kind === null) return false;
  const name = self.slice(self.indexOf('-') + 1);
  return self === `${await storePathHash(`${kind}:${storeDir}:${name}`)}-${name}`;
}

/**
 * Whether the content address and the NarHash are the same hash (`fixed:r:sha256:…` without a self-reference), so that
 * a body checked against NarHash is the content of the path, if `contentAddressMatches` too.
 */
export function contentAddressBindsNarHash(info: ContentAddressedPath): boolean {
  const address = info.ca === null ? null : addressOf(info.ca);
  if (address === null || !isNarSha256(address)) return false;
  const self = info.storePath.slice(info.storePath.lastIndexOf('/') + 1);
  return !info.references.includes(self) && formatHash(address.hash, 'nix32') === info.narHash;
}

/** Null where it is malformed or of an unknown kind. */
function addressOf(ca: string): ContentAddress | null {
  try {
    return parseContentAddress(ca);
  } catch (error) {
    if (error instanceof FormatError) return null;
    throw error;
  }
}

function isNarSha256({ method, hash }: ContentAddress): boolean {
  return method === 'nar' && hash.algorithm === 'sha256';
}

/** The type and inner hash of the text that is hashed for the path; null where Nix allows no such path. */
async function pathKind(
  address: ContentAddress,
  storeDir: string,
  others: readonly string[],
  hasSelf: boolean,
): Promise<string | null> {
  const { method, hash } = address;
  const references = others.map((reference) => `:${storeDir}/${reference}`).join('');
  if (method === 'text') {
    if (hasSelf || hash.algorithm !== 'sha256') return null;
    return `text${references}:${formatHash(hash, 'hex')}`;
  }
  if (isNarSha256(address)) return `source${references}${hasSelf ? ':self' : ''}:${formatHash(hash, 'hex')}`;
  if (hasSelf || others.length > 0) return null;
  const inner = await sha256(`fixed:out:${method === 'nar' ? 'r:' : ''}${formatHash(hash, 'hex')}:`);
  return `output:out:${formatHash({ algorithm: 'sha256', bytes: inner }, 'hex')}`;
}

/** The hash part of a path: a SHA-256 folded to 160 bits, in nix32. */
async function storePathHash(description: string): Promise<string> {
  const digest = await sha256(description);
  const folded = new Uint8Array(20);
  for (const [at, byte] of digest.entries()) folded[at % 20] = (folded[at % 20] ?? 0) ^ byte;
  return encodeNix32(folded);
}

async function sha256(text: string): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text)));
}
