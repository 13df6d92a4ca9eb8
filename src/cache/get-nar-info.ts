import { LRUCache } from 'lru-cache';
import type { BucketTrust } from './bucket-trust.ts';
import { CacheError } from './errors.ts';
import type { PathFinder } from './find-path.ts';
import { type RenderedNarInfo, render, renderBytes } from './render.ts';
import type { CacheServices } from './services.ts';
import { storedBytes } from './stored-bytes.ts';

export type NarInfoAnswer =
  | { readonly kind: 'found'; readonly narInfo: RenderedNarInfo; readonly outcome: NarInfoOutcome }
  | { readonly kind: 'missing'; readonly outcome: 'negative' | 'missing' };

/** Where the answer came from: `bucket` where the index was at fault. */
export type NarInfoOutcome = 'memory' | 'hit' | 'upstream' | 'bucket';

/** Bytes of rendered answers that are kept in memory. */
const MEMORY_BYTES = 16 * 1024 * 1024;
const OVERHEAD_BYTES = 300;
const MOST_NARINFO_BYTES = 1024 * 1024;

/** Rendered narinfos by store-path hash, for a short, stated time. */
export interface NarInfoMemory {
  get(hash: string): RenderedNarInfo | undefined;
  set(hash: string, narInfo: RenderedNarInfo): void;
  forget(hash: string): void;
}

export function createNarInfoMemory(ttlMs: number, now: () => number): NarInfoMemory {
  const entries = new LRUCache<string, { readonly narInfo: RenderedNarInfo; readonly until: number }>({
    maxSize: MEMORY_BYTES,
    sizeCalculation: ({ narInfo }) => 2 * narInfo.bytes.length + OVERHEAD_BYTES,
  });
  return {
    get(hash) {
      const entry = entries.get(hash);
      return entry !== undefined && now() < entry.until ? entry.narInfo : undefined;
    },
    set(hash, narInfo) {
      if (ttlMs > 0) entries.set(hash, { narInfo, until: now() + ttlMs });
    },
    forget(hash) {
      entries.delete(hash);
    },
  };
}

export interface NarInfoParts {
  readonly services: Pick<CacheServices, 'storage' | 'platform'>;
  readonly memory: NarInfoMemory;
  readonly paths: PathFinder;
  readonly bucketTrust: Pick<BucketTrust, 'isCurrent'>;
}

/**
 * Answers a narinfo: from memory, from the index, from the bucket where the index is at fault,
 * from the upstreams. Never downloads a NAR.
 *
 * @throws CacheError where no source could tell: never a `missing`
 */
export async function getNarInfo(parts: NarInfoParts, hash: string): Promise<NarInfoAnswer> {
  const { services, memory, paths } = parts;
  const remembered = memory.get(hash);
  if (remembered !== undefined) return { kind: 'found', narInfo: remembered, outcome: 'memory' };
  try {
    const found = await paths.find(hash);
    if (found.kind === 'missing') {
      return { kind: 'missing', outcome: found.from === 'memory' ? 'negative' : 'missing' };
    }
    const narInfo = render(found.known);
    memory.set(hash, narInfo);
    return { kind: 'found', narInfo, outcome: found.from === 'index' ? 'hit' : 'upstream' };
  } catch (error) {
    if (!(error instanceof CacheError) || error.code !== 'index_unavailable') throw error;
    const narInfo = await fromBucket(parts, hash);
    if (narInfo === null) throw error;
    services.platform.logger.warn('The index is at fault: a narinfo was answered from the bucket', {
      hash,
      error,
    });
    return { kind: 'found', narInfo, outcome: 'bucket' };
  }
}

/**
 * The bucket's own narinfo, which is there only while its NAR is. None where the bucket was not checked against what is
 * trusted today: its narinfo may be of a key that was withdrawn. A storage fault counts as none.
 */
async function fromBucket(
  { services, bucketTrust }: NarInfoParts,
  hash: string,
): Promise<RenderedNarInfo | null> {
  try {
    if (!(await bucketTrust.isCurrent())) return null;
    const bytes = await storedBytes(services.storage, `${hash}.narinfo`, MOST_NARINFO_BYTES);
    return bytes === null ? null : renderBytes(bytes);
  } catch (error) {
    services.platform.logger.warn('The bucket could not be read for a narinfo', { hash, error });
    return null;
  }
}
