import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { brotliCompressSync, constants, gzipSync, zstdCompressSync } from 'node:zlib';
import { encodeNix32 } from '../../src/nix/base32.ts';
import { fingerprint, formatNarInfo } from '../../src/nix/nar-info.ts';
import { createSigner, formatPublicKey, generateSecretKey } from '../../src/nix/signing-key.ts';
import type { SecretKey } from '../../src/nix/signing-key.ts';
import type { Behaviour, FaultServer } from './fault-server.ts';
import type { UpstreamCompression } from './upstream-cache.ts';

/** What differs from the good store path of a good upstream. */
export interface SignedPathOptions {
  /** Of the secret key that signs; null: unsigned. Left out: `upstreamKey()`. */
  readonly key?: SecretKey | null;
  /** Bytes of the file in the NAR. Default 1000. */
  readonly size?: number;
  /** The same seed and size make the same content; the store path depends on `name` alone. Default 1. */
  readonly seed?: number;
  /** Default `path`. */
  readonly name?: string;
  readonly compression?: UpstreamCompression;
  /** Default: `nar/<file hash>.nar.<ext>`. */
  readonly url?: (facts: { readonly fileHash: string; readonly hash: string }) => string;
  /** False: the narinfo has neither FileHash nor FileSize. Default true. */
  readonly fileFields?: boolean;
  /** Whether the content compresses. Default false. */
  readonly prose?: boolean;
  /** The whole NAR, in place of one that `size` and `seed` make. */
  readonly nar?: Uint8Array;
  readonly references?: readonly string[];
}

/** A store path as an upstream has it. */
export interface SignedPath {
  /** Hash part of the store path. */
  readonly hash: string;
  readonly storePath: string;
  readonly nar: Uint8Array;
  /** `sha256:<nix32>` */
  readonly narHash: string;
  /** The NAR as encoded. */
  readonly body: Uint8Array;
  /** `sha256:<nix32>` of the body. */
  readonly fileHash: string;
  readonly compression: UpstreamCompression;
  /** As the upstream's narinfo gives it. */
  readonly url: string;
  readonly narInfo: string;
}

const EXTENSIONS: Readonly<Record<UpstreamCompression, string>> = {
  none: '',
  xz: '.xz',
  zstd: '.zst',
  br: '.br',
  bzip2: '.bz2',
  gzip: '',
};

let sharedKey: Promise<SecretKey> | null = null;

/** The key that signs what these upstreams give, one for the whole test file. */
export function upstreamKey(): Promise<SecretKey> {
  return (sharedKey ??= generateSecretKey('upstream.test-1'));
}

/** The same as text, as `SNOWCAP_TRUSTED_PUBLIC_KEYS` takes it. */
export async function upstreamPublicKey(): Promise<string> {
  return formatPublicKey((await upstreamKey()).publicKey);
}

/** Makes a store path with one file in it, with its NAR in the given encoding and its signed narinfo. */
export async function signedPath(options: SignedPathOptions = {}): Promise<SignedPath> {
  const { size = 1000, seed = 1, name = 'path', compression = 'none', fileFields = true } = options;
  const nar = options.nar ?? narOfFile(options.prose === true ? prose(size, seed) : noise(size, seed));
  const hash = encodeNix32(createHash('sha256').update(name).digest().subarray(0, 20));
  const body = encodedNar(nar, compression);
  const fileHash = sha256(body);
  const fileHashPart = fileHash.slice('sha256:'.length);
  const url =
    options.url?.({ fileHash: fileHashPart, hash }) ?? `nar/${fileHashPart}.nar${EXTENSIONS[compression]}`;
  const facts = {
    storePath: `/nix/store/${hash}-${name}`,
    narHash: sha256(nar),
    narSize: nar.length,
    references: options.references ?? [],
  };
  const key = options.key === undefined ? await upstreamKey() : options.key;
  const signatures = key === null ? [] : [await (await createSigner(key)).sign(fingerprint(facts))];
  const narInfo = formatNarInfo({
    ...facts,
    url,
    compression,
    fileHash: fileFields ? fileHash : null,
    fileSize: fileFields ? body.length : null,
    deriver: null,
    signatures,
    ca: null,
    extra: [],
  });
  const { storePath, narHash } = facts;
  return { hash, storePath, nar, narHash, body, fileHash, compression, url, narInfo };
}

/**
 * A store path whose narinfo is signed and gives the right FileHash and FileSize of a body that holds another NAR of
 * the same size: only its NarHash tells.
 */
export async function withOtherBody(options: SignedPathOptions = {}): Promise<SignedPath> {
  const right = await signedPath(options);
  const other = await signedPath({ ...options, seed: (options.seed ?? 1) + 7919 });
  const fields = { URL: other.url, FileHash: other.fileHash, FileSize: String(other.body.length) };
  const narInfo = Object.entries(fields).reduce(
    (text, [name, value]) => text.replace(new RegExp(`^${name}: .*$`, 'm'), `${name}: ${value}`),
    right.narInfo,
  );
  return { ...right, body: other.body, fileHash: other.fileHash, url: other.url, narInfo };
}

/**
 * Lets an upstream have the path.
 *
 * @param behaviour how its NAR is answered; the body is there already
 */
export function publish(
  server: FaultServer,
  path: SignedPath,
  behaviour: Behaviour | readonly Behaviour[] = {},
): void {
  server.route(`/${path.hash}.narinfo`, { body: path.narInfo });
  const behaviours: readonly Behaviour[] = Array.isArray(behaviour) ? behaviour : [behaviour];
  server.route(
    `/${path.url}`,
    behaviours.map((one) => ({ body: path.body, ...one })),
  );
}

/** `sha256:<nix32>` of bytes, not made by the code under test but for the letters of nix32. */
export function sha256(bytes: Uint8Array): string {
  return `sha256:${encodeNix32(createHash('sha256').update(bytes).digest())}`;
}

/** The NAR of a regular file. */
export function narOfFile(contents: Uint8Array): Uint8Array {
  return narOf('nix-archive-1', '(', 'type', 'regular', 'contents', contents, ')');
}

/** The strings of a NAR, each with its length and padding. */
export function narOf(...parts: readonly (string | Uint8Array)[]): Uint8Array {
  return Buffer.concat(parts.map((part) => narString(typeof part === 'string' ? Buffer.from(part) : part)));
}

function narString(bytes: Uint8Array): Uint8Array {
  const padded = Math.ceil(bytes.length / 8) * 8;
  const out = Buffer.alloc(8 + padded);
  out.writeBigUInt64LE(BigInt(bytes.length));
  out.set(bytes, 8);
  return out;
}

/** Pseudo-random bytes (xorshift), the same ones for the same seed. */
export function noise(size: number, seed: number): Uint8Array {
  const words = new Uint32Array(Math.ceil(size / 4));
  let state = (seed * 2654435761) | 1;
  for (let at = 0; at < words.length; at++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[at] = state;
  }
  return new Uint8Array(words.buffer, 0, size);
}

/** Bytes that compress by about half. */
function prose(size: number, seed: number): Uint8Array {
  return noise(size, seed).map((byte) => 97 + (byte & 15));
}

function encodedNar(nar: Uint8Array, compression: UpstreamCompression): Uint8Array {
  switch (compression) {
    case 'none':
      return nar;
    case 'xz':
    case 'bzip2':
      return execFileSync(compression, ['-c', '-1'], { input: nar, maxBuffer: 2 ** 30 });
    case 'gzip':
      return gzipSync(nar, { level: 1 });
    case 'br':
      return brotliCompressSync(nar, { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } });
    case 'zstd':
      return zstdCompressSync(nar);
  }
}
