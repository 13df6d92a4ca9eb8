import { LRUCache } from 'lru-cache';
import type { PathWithNar } from '../database/metadata-store.ts';
import { type Compression, decompress, DecompressionError, isCompression } from '../nar/decompress.ts';
import { createListing, formatListing, ListingTooLargeError } from '../nar/listing.ts';
import { NarError } from '../nar/nar-error.ts';
import { createSha256 } from '../nar/sha256.ts';
import type { ByteStream } from '../stream/byte-stream.ts';
import { CacheError } from './errors.ts';
import { faultOf } from './faults.ts';
import { assertNar } from './fill/body-verifier.ts';
import type { PathFinder } from './find-path.ts';
import type { NarAnswer, NarRequest } from './get-nar.ts';
import type { CacheServices } from './services.ts';
import { storedBytes, streamOfBody } from './stored-bytes.ts';
import { createTurns } from './turns.ts';

export type ListingAnswer =
  | { readonly kind: 'found'; readonly bytes: Uint8Array; readonly outcome: 'hit' | 'made' }
  | { readonly kind: 'missing' };

/** The `.ls` of store paths, in Nix's format. */
export interface Listings {
  /**
   * As stored, or made from the NAR when it is asked for the first time (which fetches the NAR). The NarHash is checked
   * on the way, whatever `SNOWCAP_VERIFY` says.
   *
   * @param hash hash part of a store path
   * @throws CacheError where no source could tell; `not_listable` where it would take too much
   */
  get(hash: string): Promise<ListingAnswer>;
}

/** The NARs that are too large to be listed, by NarHash, which determines the listing. */
export type UnlistableMemory = LRUCache<string, ListingTooLargeError>;

export interface ListingParts {
  readonly services: CacheServices;
  readonly paths: PathFinder;
  readonly unlistable: UnlistableMemory;
  readonly getNar: (request: NarRequest) => Promise<NarAnswer>;
}

const MOST_LISTING_BYTES = 64 * 1024 * 1024;
/** Decoding takes this thread's time, and a window each. */
const MOST_AT_ONCE = 2;
/** As much as `xz -9` needs. In bytes. */
const MOST_WINDOW_BYTES = 64 * 1024 * 1024;
const MOST_REMEMBERED = 1000;

export function createUnlistableMemory(): UnlistableMemory {
  return new LRUCache({ max: MOST_REMEMBERED });
}

export function createListings(parts: ListingParts): Listings {
  const { unlistable } = parts;
  const { platform, storage } = parts.services;
  const underway = new Map<string, Promise<ListingAnswer>>();
  const turns = createTurns(MOST_AT_ONCE);

  async function make(hash: string): Promise<ListingAnswer> {
    const found = await parts.paths.find(hash);
    if (found.kind === 'missing') return { kind: 'missing' };
    const { path, nar } = found.known;
    const { compression } = nar;
    if (!isCompression(compression)) return { kind: 'missing' };
    const known = unlistable.get(path.narHash);
    if (known !== undefined) throw listingFault(path.storePath, known);
    return await turns.take(async () => {
      const answer = await parts.getNar({ key: nar.key, query: '' });
      if (answer.kind !== 'body') return { kind: 'missing' };
      try {
        const window = Math.min(MOST_WINDOW_BYTES, parts.services.settings.bufferLimit);
        const bytes = await listingOf(streamOfBody(answer.body), compression, found.known, window);
        store(`${hash}.ls`, bytes);
        return { kind: 'found', bytes, outcome: 'made' };
      } catch (error) {
        if (error instanceof ListingTooLargeError) unlistable.set(path.narHash, error);
        throw listingFault(path.storePath, error);
      }
    });
  }

  /** Kept beside its narinfo, so that a plain client of the bucket has it too. */
  function store(key: string, bytes: Uint8Array): void {
    const options = { contentType: 'application/json', ifAbsent: true };
    platform.defer(`store ${key}`, storage.put(key, { kind: 'bytes', bytes }, options));
  }

  function shared(hash: string): Promise<ListingAnswer> {
    const running = underway.get(hash);
    if (running !== undefined) return running;
    const making = make(hash).finally(() => underway.delete(hash));
    underway.set(hash, making);
    return making;
  }

  return {
    async get(hash) {
      const stored = await storedListing(parts.services, `${hash}.ls`);
      if (stored.kind === 'found') return { ...stored, outcome: 'hit' };
      const made = await shared(hash);
      // What a storage at fault may hold is not missing (law 5).
      if (made.kind === 'missing' && stored.kind === 'fault') throw faultOf(stored.error);
      return made;
    },
  };
}

type StoredListing =
  | { readonly kind: 'found'; readonly bytes: Uint8Array }
  | { readonly kind: 'missing' }
  | { readonly kind: 'fault'; readonly error: unknown };

async function storedListing({ storage, platform }: CacheServices, key: string): Promise<StoredListing> {
  try {
    const bytes = await storedBytes(storage, key, MOST_LISTING_BYTES);
    return bytes === null ? { kind: 'missing' } : { kind: 'found', bytes };
  } catch (error) {
    platform.logger.warn('A stored listing could not be read', { key, error });
    return { kind: 'fault', error };
  }
}

async function listingOf(
  body: ByteStream,
  compression: Compression,
  { path, nar }: PathWithNar,
  maxWindow: number,
): Promise<Uint8Array> {
  const { narHash, narSize } = path;
  const limits = { maxOutput: narSize, maxWindow };
  const checked = checkedNar(decompress(body, compression, limits), { key: nar.key, narHash, narSize });
  return new TextEncoder().encode(formatListing(await createListing(checked)));
}

function listingFault(storePath: string, error: unknown): CacheError {
  const why = error instanceof Error ? error.message : String(error);
  const message = `The NAR of ${storePath} cannot be listed: ${why}`;
  // Without proof that the bytes are wrong, it is this cache that will not list them.
  const undecoded = error instanceof DecompressionError && error.reason !== 'corrupt';
  if (error instanceof ListingTooLargeError || undecoded) {
    return new CacheError('limit', 'not_listable', message, { cause: error });
  }
  if (error instanceof DecompressionError || error instanceof NarError) {
    return new CacheError('fault', 'body_mismatch', message, { cause: error });
  }
  return faultOf(error);
}

async function* checkedNar(
  nar: ByteStream,
  expected: { readonly key: string; readonly narHash: string; readonly narSize: number },
): AsyncGenerator<Uint8Array, void, void> {
  const hash = createSha256();
  let narSize = 0;
  for await (const chunk of nar) {
    hash.update(chunk);
    narSize += chunk.length;
    yield chunk;
  }
  assertNar(expected, { narHash: hash.digest(), narSize });
}
