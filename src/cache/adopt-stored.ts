import { BannedPathError, type Justification, type PathWithNar } from '../database/metadata-store.ts';
import { type Compression, isCompression } from '../nar/decompress.ts';
import { FormatError } from '../nix/format-error.ts';
import { fingerprint, type NarInfo, parseNarInfo } from '../nix/nar-info.ts';
import { formatPublicKey, keyNameOf, verifySignature } from '../nix/signing-key.ts';
import { parseStorePath } from '../nix/store-path.ts';
import { type BlobInfo, isKey } from '../storage/blob-store.ts';
import { narKeyOf } from './nar-key.ts';
import { render } from './render.ts';
import type { CacheServices } from './services.ts';
import { withOwnSignatures } from './sign.ts';
import { storeNarInfoOfPresent } from './store-nar-info.ts';
import { sameBytes, storedNarInfo } from './stored-bytes.ts';
import { judge } from './trust.ts';

/** What became of a narinfo of the bucket. */
export type Adopted =
  /** The index has the path now, with its NAR as present. */
  | { readonly kind: 'adopted'; readonly known: PathWithNar }
  /** The index had the path already, with another NAR or with this one present. */
  | { readonly kind: 'known'; readonly known: PathWithNar }
  /** It may not be served. */
  | { readonly kind: 'refused'; readonly reason: string }
  /** Its NAR is not in the bucket, or of another size. */
  | { readonly kind: 'without NAR'; readonly reason: string }
  /** There is no such narinfo any more. */
  | { readonly kind: 'gone' };

export interface AdoptOptions {
  /**
   * All narinfos of the bucket were checked against the keys that are trusted today (`BucketTrust.isCurrent`): then our
   * own signature tells that the path was pushed. Else it may as well be left of a key that was withdrawn.
   */
  readonly bucketIsTrusted: boolean;
  /** Take paths for pushed that no key vouches for: whoever may write into the bucket is trusted. */
  readonly allowUnsigned: boolean;
}

/** A narinfo of the bucket that may be taken, with its NAR. */
interface Fit {
  readonly kind: 'fit';
  readonly info: NarInfo;
  readonly justification: Justification;
  readonly fileHash: string;
  /** Its NAR. */
  readonly blob: BlobInfo;
  readonly bytes: Uint8Array;
}

/**
 * Looks whether a narinfo of the bucket could be taken into the index, and changes nothing.
 *
 * @param hash hash part of the store path
 * @throws what the storage and the index throw
 */
export async function judgeStored(
  services: CacheServices,
  hash: string,
  options: AdoptOptions,
): Promise<Fit | Exclude<Adopted, { readonly kind: 'adopted' | 'known' }>> {
  const { storage, metadata } = services;
  const bytes = await storedNarInfo(storage, hash);
  if (bytes === null) return { kind: 'gone' };
  const read = readNarInfo(services, hash, new TextDecoder().decode(bytes));
  if (typeof read === 'string') return refused(read);
  const { info, compression } = read;
  const justification = await justificationOf(services, info, options);
  if (typeof justification === 'string') return refused(justification);
  const blob = await storage.head(info.url);
  if (blob === null) return { kind: 'without NAR', reason: `${info.url} is not stored` };
  const plain = compression === 'none';
  const size = info.fileSize ?? (plain ? info.narSize : blob.size);
  if (blob.size !== size) {
    return { kind: 'without NAR', reason: `${info.url} has ${blob.size} bytes, expected ${size}` };
  }
  const fileHash = info.fileHash ?? (plain ? info.narHash : null);
  if (fileHash === null) return refused(`${info.storePath} has no FileHash`);
  const named = await metadata.getNar(info.url, 1);
  if (named?.nar.state === 'quarantined') return refused(`${info.url} was found to be wrong`);
  if (named?.paths.some(({ narHash }) => narHash !== info.narHash) === true) {
    return refused(`${info.url} is of another content than ${info.storePath}`);
  }
  return { kind: 'fit', info, justification, fileHash, blob, bytes };
}

/**
 * Takes a narinfo of the bucket, with the NAR that it names, into the index. Nobody knows where they came from: they
 * count as pushed until an upstream confirms them (`confirmUpstream`). The body is not read: its size is compared, and
 * it is verified in the background, as every body that is present without a verification.
 *
 * @param hash hash part of the store path
 * @throws what the storage and the index throw
 */
export async function adoptStored(
  services: CacheServices,
  hash: string,
  options: AdoptOptions,
): Promise<Adopted> {
  const { metadata, platform } = services;
  const judged = await judgeStored(services, hash, options);
  if (judged.kind !== 'fit') return judged;
  const { info, justification, fileHash, blob, bytes } = judged;
  const known = await record(services, info, justification);
  if (known === null) return refused(`${info.storePath} is banned`);
  const { state } = known.nar;
  if (known.nar.key !== info.url || state === 'present' || state === 'evicting')
    return { kind: 'known', known };
  await platform.checkpoint?.('adopt:index');
  await metadata.markPresent(info.url, {
    fileHash,
    fileSize: blob.size,
    verification: 'none',
    at: storedAt(blob, platform.clock.now()),
  });
  const now = (await metadata.getPath(hash)) ?? known;
  // Our own signature, where another wrote it.
  if (!sameBytes(render(now).bytes, bytes)) await storeNarInfoOfPresent(services, now);
  return { kind: 'adopted', known: now };
}

/**
 * Asks the upstreams for a path that counts as pushed. Where one has it with the same NarHash, it can be had again.
 *
 * @returns whether one has it; false too where none could tell
 * @throws what the index throws
 */
export async function confirmUpstream(services: CacheServices, { path, nar }: PathWithNar): Promise<boolean> {
  const { upstreams, upkeep, trustedKeys } = services;
  const found = await upstreams.findNarInfo(path.hash, async ({ info, upstream, allowUnsigned }) => {
    if (info.narHash !== path.narHash || !isCompression(info.compression)) {
      return { accepted: false, reason: `${upstream} has another build of ${path.storePath}` };
    }
    const judgement = await judge(info, trustedKeys, allowUnsigned ? upstream : null);
    if (!judgement.trusted) return { accepted: false, reason: judgement.reason };
    const same = narKeyOf(info, info.compression) === nar.key && info.compression === nar.compression;
    return { accepted: true, value: same ? { upstream, url: info.url } : null };
  });
  if (found.kind !== 'found') return false;
  await upkeep.markObtainable(nar.key, found.value);
  return true;
}

function refused(reason: string): { readonly kind: 'refused'; readonly reason: string } {
  return { kind: 'refused', reason };
}

/** @returns why not, where it cannot be used */
function readNarInfo(
  { settings }: Pick<CacheServices, 'settings'>,
  hash: string,
  text: string,
): { readonly info: NarInfo; readonly compression: Compression } | string {
  try {
    const info = parseNarInfo(text, { storeDir: settings.storeDir });
    if (parseStorePath(info.storePath, settings.storeDir).hash !== hash) {
      return `${hash}.narinfo is of another path, ${info.storePath}`;
    }
    const { compression } = info;
    if (!isCompression(compression)) return `its compression ${JSON.stringify(compression)} is unknown`;
    if (!info.url.startsWith('nar/') || !isKey(info.url)) {
      return `its URL ${JSON.stringify(info.url)} is none of a NAR in this bucket`;
    }
    return { info, compression };
  } catch (error) {
    if (error instanceof FormatError) return `${hash}.narinfo is no narinfo: ${error.message}`;
    throw error;
  }
}

/** @returns why not, where nothing justifies it */
async function justificationOf(
  { signers, trustedKeys }: Pick<CacheServices, 'signers' | 'trustedKeys'>,
  info: NarInfo,
  { bucketIsTrusted, allowUnsigned }: AdoptOptions,
): Promise<Justification | string> {
  const ownNames = new Set(signers.map(({ publicKey }) => publicKey.name));
  const isOwn = (signature: string): boolean => ownNames.has(keyNameOf(signature));
  const foreign = info.signatures.filter((signature) => !isOwn(signature));
  const judgement = await judge({ ...info, signatures: foreign }, trustedKeys, null);
  if (judgement.trusted) return judgement.justification;
  if (allowUnsigned) return { kind: 'pushed' };
  if (!bucketIsTrusted && foreign.length > 0) return judgement.reason;
  const own = new Map(signers.map(({ publicKey }) => [formatPublicKey(publicKey), publicKey]));
  const message = fingerprint(info);
  for (const signature of info.signatures.filter(isOwn)) {
    if ((await verifySignature(message, signature, own)) !== null) return { kind: 'pushed' };
  }
  return judgement.reason;
}

/** @returns null where the path is banned */
async function record(
  { metadata, platform, signers }: Pick<CacheServices, 'metadata' | 'platform' | 'signers'>,
  info: NarInfo,
  justification: Justification,
): Promise<PathWithNar | null> {
  const { url, compression, fileHash, fileSize, ...facts } = info;
  const { hash } = parseStorePath(info.storePath, info.storePath.slice(0, info.storePath.lastIndexOf('/')));
  try {
    return await metadata.recordPath(
      {
        ...facts,
        hash,
        signatures: await withOwnSignatures(info, signers),
        justification,
        origin: null,
        recordedAt: platform.clock.now(),
      },
      { key: url, compression, fileHash, fileSize, source: null },
    );
  } catch (error) {
    if (error instanceof BannedPathError) return null;
    throw error;
  }
}

/** When it was last used nobody knows any more: not before it was stored. */
function storedAt({ modifiedAt }: BlobInfo, now: number): number {
  return Math.max(0, Math.min(Math.floor(modifiedAt), now));
}
