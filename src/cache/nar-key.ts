import type { NarInfo } from '../nix/nar-info.ts';
import type { Compression } from '../nar/decompress.ts';
import { compressionExtension } from '../nar/decompress.ts';
import { isStorePathHash, parseStorePath } from '../nix/store-path.ts';

const OWN_FILE_HASH_URL = /^nar\/([0-9a-z]{52})\.nar(?:\.[0-9a-z]+)?$/;
const DERIVED_KEY = /^nar\/([0-9a-z]{32})-([0-9a-z]{52})\.nar(?:\.[0-9a-z]+)?$/;

/**
 * The storage key of a NAR, which is also the `URL` that our narinfo gives.
 *
 * The upstream's own URL is kept where it names the FileHash: it then determines the bytes. Anything
 * else becomes `nar/<store hash>-<nar hash>.nar[.<ext>]`, from which any instance with an empty index
 * finds the source again. The extension follows the compression, gzip included, so that two encodings
 * of one NAR never share a key (law 3).
 */
export function narKeyOf(
  info: Pick<NarInfo, 'storePath' | 'url' | 'fileHash' | 'narHash'>,
  compression: Compression,
): string {
  const named = OWN_FILE_HASH_URL.exec(info.url)?.[1];
  if (named !== undefined && info.fileHash === `sha256:${named}`) return info.url;
  return derivedKeyOf(info, compression);
}

/** The key that names the store path and its NarHash, whatever the upstream's URL is. */
export function derivedKeyOf(info: Pick<NarInfo, 'storePath' | 'narHash'>, compression: Compression): string {
  const { hash } = parseStorePath(info.storePath, storeDirOf(info.storePath));
  return `nar/${hash}-${info.narHash.slice('sha256:'.length)}.nar${compressionExtension(compression)}`;
}

/** The FileHash (`sha256:<nix32>`) that a key of an upstream's own form names; null for any other key. */
export function parseFileHashKey(key: string): string | null {
  const named = OWN_FILE_HASH_URL.exec(key)?.[1];
  return named === undefined ? null : `sha256:${named}`;
}

/** The store-path hash and NarHash that a derived key names; null for any other key. */
export function parseDerivedKey(
  key: string,
): { readonly storeHash: string; readonly narHash: string } | null {
  const match = DERIVED_KEY.exec(key);
  const [, storeHash, narHash] = match ?? [];
  if (storeHash === undefined || narHash === undefined || !isStorePathHash(storeHash)) return null;
  return { storeHash, narHash: `sha256:${narHash}` };
}

function storeDirOf(storePath: string): string {
  return storePath.slice(0, storePath.lastIndexOf('/'));
}
