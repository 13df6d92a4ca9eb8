import { decodeNix32, encodeNix32, nix32Length } from './base32.ts';
import { decodeBase64, encodeBase64 } from './base64.ts';
import { FormatError } from './format-error.ts';

/** The hash algorithms that Nix 2.36 names (`src/libutil/hash.cc`). */
export type HashAlgorithm = 'md5' | 'sha1' | 'sha256' | 'sha512' | 'blake3';

/** A digest with the algorithm that made it. */
export interface Hash {
  readonly algorithm: HashAlgorithm;
  /** As many as the algorithm makes. */
  readonly bytes: Uint8Array;
}

/** `nix32`, `hex` and `base64` follow the algorithm and a colon; `sri` is `sha256-<base64>`. */
export type HashEncoding = 'nix32' | 'hex' | 'base64' | 'sri';

/** Bytes of a digest. */
const SIZES: ReadonlyMap<string, number> = new Map<HashAlgorithm, number>([
  ['md5', 16],
  ['sha1', 20],
  ['sha256', 32],
  ['sha512', 64],
  ['blake3', 32],
]);

/** Whether Nix knows an algorithm by this name. */
export function isHashAlgorithm(name: string): name is HashAlgorithm {
  return SIZES.has(name);
}

/**
 * A hash in any form that Nix reads: `sha256:` followed by nix32, hex (either case) or base64, told
 * apart by their lengths; the SRI form `sha256-<base64>`; or one of the first three bare, with `algorithm`.
 *
 * @param algorithm what the hash must be of, where that is known
 * @throws FormatError
 */
export function parseHash(text: string, algorithm?: HashAlgorithm): Hash {
  const colon = text.indexOf(':');
  const split = colon >= 0 ? colon : text.indexOf('-');
  const sri = colon < 0 && split >= 0;
  const named = split >= 0 ? text.slice(0, split) : algorithm;

  if (named === undefined) throw new FormatError('hash', 'algorithm', text, 'the hash does not name one');
  if (!isHashAlgorithm(named)) {
    throw new FormatError('hash', 'algorithm', named, `expected one of ${[...SIZES.keys()].join(', ')}`);
  }
  if (algorithm !== undefined && named !== algorithm) {
    throw new FormatError('hash', 'algorithm', named, `expected ${algorithm}`);
  }
  const digest = split >= 0 ? text.slice(split + 1) : text;
  return { algorithm: named, bytes: parseDigest(digest, named, sri) };
}

function parseDigest(text: string, algorithm: HashAlgorithm, sri: boolean): Uint8Array {
  const size = SIZES.get(algorithm) ?? 0;
  let bytes: Uint8Array | null = null;
  if (sri) bytes = decodeBase64(text);
  else if (text.length === nix32Length(size)) bytes = decodeNix32(text);
  else if (text.length === size * 2) bytes = decodeHex(text);
  else if (text.length === Math.ceil(size / 3) * 4) bytes = decodeBase64(text);
  else
    throw new FormatError(
      'hash',
      'digest',
      text,
      `${text.length} characters are not the length of a ${algorithm} hash`,
    );

  if (bytes?.length !== size) {
    throw new FormatError('hash', 'digest', text, `expected ${size} bytes in nix32, hex or base64`);
  }
  return bytes;
}

/**
 * The hash with its algorithm, as `sha256:<digest>`, or in the SRI form.
 *
 * @example
 * formatHash(parseHash('sha1:q3y5i4jm4rpcbk8mlxqjgb1fsdwrlc5s'), 'hex')
 */
export function formatHash(hash: Hash, encoding: HashEncoding): string {
  switch (encoding) {
    case 'nix32':
      return `${hash.algorithm}:${encodeNix32(hash.bytes)}`;
    case 'hex':
      return `${hash.algorithm}:${encodeHex(hash.bytes)}`;
    case 'base64':
      return `${hash.algorithm}:${encodeBase64(hash.bytes)}`;
    case 'sri':
      return `${hash.algorithm}-${encodeBase64(hash.bytes)}`;
  }
}

function encodeHex(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += byte.toString(16).padStart(2, '0');
  return text;
}

function decodeHex(text: string): Uint8Array | null {
  if (!/^[0-9a-f]*$/i.test(text)) return null;
  const bytes = new Uint8Array(text.length / 2);
  for (let at = 0; at < bytes.length; at++) bytes[at] = Number.parseInt(text.slice(at * 2, at * 2 + 2), 16);
  return bytes;
}
