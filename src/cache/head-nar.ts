import type { OpenedNar } from '../upstream/upstreams.ts';
import { InvalidKeyError } from '../storage/blob-store.ts';
import { leave } from '../stream/byte-stream.ts';
import { faultOf } from './faults.ts';
import { findClaim } from './fill/claim.ts';
import type { Sources } from './fill/sources.ts';
import type { PathFinder } from './find-path.ts';
import type { CacheServices } from './services.ts';

export type NarHead =
  | {
      readonly kind: 'found';
      readonly outcome: 'hit' | 'upstream';
      /** Bytes, null where unknown. */
      readonly size: number | null;
      /** Whether these are the bytes of this key for good: stored, or vouched for by a path. */
      readonly lasting: boolean;
    }
  | { readonly kind: 'missing' };

export interface HeadNarParts {
  readonly services: CacheServices;
  readonly paths: PathFinder;
  readonly sources: Sources;
}

/**
 * Whether a NAR can be had, without fetching it: clients that push ask this before each upload.
 *
 * @param query the query of the URL with its `?`, or empty
 * @throws CacheError where no source could tell
 */
export async function headNar(parts: HeadNarParts, key: string, query: string): Promise<NarHead> {
  if (query !== '') return await atUpstreams(parts, key, query);
  const stored = await storedHead(parts, key);
  if (stored.kind === 'found') return stored;
  const head = await atUpstreams(parts, key, query);
  // What a storage at fault may hold is not missing (law 5).
  if (head.kind === 'missing' && stored.kind === 'fault') throw faultOf(stored.error);
  return head;
}

async function atUpstreams(parts: HeadNarParts, key: string, query: string): Promise<NarHead> {
  const { services, sources, paths } = parts;
  const claim = query === '' ? await findClaim(services, paths, key) : { kind: 'unclaimed' as const };
  if (claim.kind === 'quarantined') return { kind: 'missing' };
  const opened: OpenedNar =
    claim.kind === 'unclaimed'
      ? await services.upstreams.findNar(key + query, { method: 'HEAD' })
      : await sources.open(claim.claim, { method: 'HEAD' });
  if (opened.kind === 'fault') throw faultOf(opened.fault);
  if (opened.kind !== 'found') return { kind: 'missing' };
  await leave(opened.body);
  const lasting = claim.kind !== 'unclaimed';
  const size = lasting ? (claim.claim.expected.fileSize ?? opened.size) : opened.size;
  return { kind: 'found', outcome: 'upstream', size, lasting };
}

async function storedHead(
  { services }: HeadNarParts,
  key: string,
): Promise<NarHead | { readonly kind: 'fault'; readonly error: unknown }> {
  try {
    const stored = await services.storage.head(key);
    if (stored === null) return { kind: 'missing' };
    return { kind: 'found', outcome: 'hit', size: stored.size, lasting: true };
  } catch (error) {
    if (error instanceof InvalidKeyError) return { kind: 'missing' };
    services.platform.logger.warn('The storage could not be asked for a NAR', { key, error });
    return { kind: 'fault', error };
  }
}
