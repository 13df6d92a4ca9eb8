import { createHash } from 'node:crypto';

/** A SHA-256 over bytes as they come, in hexadecimal, as Signature Version 4 wants it. */
export interface HexSha256 {
  update(bytes: Uint8Array): void;
  /** 64 characters. May be called once. */
  digest(): string;
}

/**
 * A new SHA-256. Workers implement `createHash` too. The SDK's own, which it takes where it is given no
 * digest, holds the thread for a whole part on Node, and on Workers copies the part twice.
 */
export function createHexSha256(): HexSha256 {
  const hash = createHash('sha256');
  return {
    update(bytes) {
      hash.update(bytes);
    },
    digest: () => hash.digest('hex'),
  };
}

/** The MD5 of a text in base64, as `Content-MD5` wants it (RFC 1864). */
export function base64Md5(text: string): string {
  return createHash('md5').update(new TextEncoder().encode(text)).digest('base64');
}
