import { LRUCache } from 'lru-cache';
import { collect } from '../stream/byte-stream.ts';
import { CacheError } from './errors.ts';
import type { PathFinder } from './find-path.ts';
import { type RenderedNarInfo, render, renderBytes } from './render.ts';
import type { CacheServices } from './services.ts';

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
    sizeCalculation: ({ narInfo }) => narInfo.bytes.length + OVERHEAD_BYTES,
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

/**
 * Answers a narinfo: from memory, from the index, from the bucket where the index is at fault,
 * from the upstreams. Never downloads a NAR.
 *
 * @throws CacheError where no source could tell: never a `missing`
 */
export async function getNarInfo(
  services: CacheServices,
  memory: NarInfoMemory,
  paths: PathFinder,
  hash: string,
): Promise<NarInfoAnswer> {
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
    const narInfo = await fromBucket(services, hash);
    if (narInfo === null) throw error;
    services.platform.logger.warn('The index is at fault: a narinfo was answered from the bucket', {
      hash,
      error,
    });
    return { kind: 'found', narInfo, outcome: 'bucket' };
  }
}

/** The bucket's own narinfo, which is there only while its NAR is. A storage fault counts as none. */
async function fromBucket(services: CacheServices, hash: string): Promise<RenderedNarInfo | null> {
  try {
    const blob = await services.storage.get(`${hash}.narinfo`);
    if (blob === null || blob.kind === 'unsatisfiable') return null;
    const bytes =
      blob.body.kind === 'bytes'
        ? blob.body.bytes
        : await collect(blob.body.stream, MOST_NARINFO_BYTES, `The narinfo of ${hash}`);
    return renderBytes(bytes);
  } catch (error) {
    services.platform.logger.warn('The bucket could not be read for a narinfo', { hash, error });
    return null;
  }
}
