import { decompress, isCompression } from '../nar/decompress.ts';
import { createListing, formatListing } from '../nar/listing.ts';
import { createSha256 } from '../nar/sha256.ts';
import { type ByteStream, collect, streamOf } from '../stream/byte-stream.ts';
import { CacheError } from './errors.ts';
import { faultOf } from './faults.ts';
import { assertNar } from './fill/body-verifier.ts';
import type { PathFinder } from './find-path.ts';
import type { NarAnswer, NarRequest } from './get-nar.ts';
import type { CacheServices } from './services.ts';

export type ListingAnswer =
  | { readonly kind: 'found'; readonly bytes: Uint8Array; readonly outcome: 'hit' | 'made' }
  | { readonly kind: 'missing' };

export interface ListingParts {
  readonly services: CacheServices;
  readonly paths: PathFinder;
  readonly getNar: (request: NarRequest) => Promise<NarAnswer>;
}

const MOST_LISTING_BYTES = 64 * 1024 * 1024;

/**
 * The `.ls` of a store path, in Nix's format: as stored, or made from the NAR when it is asked for the first
 * time (which fetches the NAR). The NarHash is checked on the way, whatever `SNOWCAP_VERIFY` says.
 *
 * @throws CacheError where no source could tell
 */
export async function getListing(parts: ListingParts, hash: string): Promise<ListingAnswer> {
  const key = `${hash}.ls`;
  const stored = await storedListing(parts, key);
  if (stored.kind === 'found') return { ...stored, outcome: 'hit' };
  const made = await madeListing(parts, hash, key);
  // What a storage at fault may hold is not missing (law 5).
  if (made.kind === 'missing' && stored.kind === 'fault') throw faultOf(stored.error);
  return made;
}

async function madeListing(parts: ListingParts, hash: string, key: string): Promise<ListingAnswer> {
  const { storage, platform } = parts.services;
  const found = await parts.paths.find(hash);
  if (found.kind === 'missing') return { kind: 'missing' };
  const { path, nar } = found.known;
  const { compression } = nar;
  if (!isCompression(compression)) return { kind: 'missing' };
  const answer = await parts.getNar({ key: nar.key, query: '' });
  if (answer.kind !== 'body') return { kind: 'missing' };
  const body = answer.body.kind === 'bytes' ? streamOf(answer.body.bytes) : answer.body.stream;
  const checked = checkedNar(decompress(body, compression, { maxOutput: path.narSize }), {
    key: nar.key,
    narHash: path.narHash,
    narSize: path.narSize,
  });
  try {
    const bytes = new TextEncoder().encode(formatListing(await createListing(checked)));
    // Kept beside its narinfo, so that a plain client of the bucket has it too.
    platform.defer(
      `store ${key}`,
      storage.put(key, { kind: 'bytes', bytes }, { contentType: 'application/json', ifAbsent: true }),
    );
    return { kind: 'found', bytes, outcome: 'made' };
  } catch (error) {
    if (error instanceof Error && ['NarError', 'DecompressionError'].includes(error.name)) {
      throw new CacheError(
        'fault',
        'body_mismatch',
        `The NAR of ${path.storePath} cannot be listed: ${error.message}`,
        {
          cause: error,
        },
      );
    }
    throw faultOf(error);
  }
}

type StoredListing =
  | { readonly kind: 'found'; readonly bytes: Uint8Array }
  | { readonly kind: 'missing' }
  | { readonly kind: 'fault'; readonly error: unknown };

async function storedListing({ services }: ListingParts, key: string): Promise<StoredListing> {
  try {
    const blob = await services.storage.get(key);
    if (blob === null || blob.kind === 'unsatisfiable') return { kind: 'missing' };
    const { body } = blob;
    const bytes = body.kind === 'bytes' ? body.bytes : await collect(body.stream, MOST_LISTING_BYTES, key);
    return { kind: 'found', bytes };
  } catch (error) {
    services.platform.logger.warn('A stored listing could not be read', { key, error });
    return { kind: 'fault', error };
  }
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
