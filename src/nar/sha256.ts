import { createHash } from 'node:crypto';
import { encodeNix32 } from '../nix/base32.ts';

/** A SHA-256 over bytes as they come. */
export interface Sha256 {
  update(bytes: Uint8Array): void;
  /** `sha256:` and 52 characters of nix32, as in a narinfo. May be called once. */
  digest(): string;
}

/**
 * A new SHA-256.
 *
 * `createHash` rather than WebCrypto: that one hashes whole buffers only. Workers implement it too.
 */
export function createSha256(): Sha256 {
  const hash = createHash('sha256');
  return {
    update(bytes: Uint8Array): void {
      hash.update(bytes);
    },
    digest(): string {
      return `sha256:${encodeNix32(hash.digest())}`;
    },
  };
}
