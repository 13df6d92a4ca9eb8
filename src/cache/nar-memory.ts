import { LRUCache } from 'lru-cache';
import { INLINE_BODY_LIMIT } from '../storage/blob-store.ts';

/**
 * Small bodies that were read from storage lately: most NARs are small, and for those the way to the store costs more
 * than the bytes. The bytes of a key never change (law 3), so an entry can only be of what is gone by now; it
 * is kept for a short, stated time, as narinfos are.
 */
export interface NarMemory {
  get(key: string): Uint8Array | undefined;
  /** Takes bodies up to `INLINE_BODY_LIMIT`; others are passed over. */
  set(key: string, bytes: Uint8Array): void;
  forget(key: string): void;
}

/** Of the memory for bodies in flight, this part comes on top for bodies that are kept. */
const SHARE = 1 / 4;
const OVERHEAD_BYTES = 300;

/**
 * @param ttlMs milliseconds; 0 keeps nothing
 * @param bufferLimit bytes of memory for bodies in flight
 */
export function createNarMemory(ttlMs: number, bufferLimit: number, now: () => number): NarMemory {
  const entries = new LRUCache<string, { readonly bytes: Uint8Array; readonly until: number }>({
    maxSize: Math.max(1, Math.floor(bufferLimit * SHARE)),
    sizeCalculation: ({ bytes }) => bytes.length + OVERHEAD_BYTES,
  });
  return {
    get(key) {
      const entry = entries.get(key);
      return entry !== undefined && now() < entry.until ? entry.bytes : undefined;
    },
    set(key, bytes) {
      if (ttlMs > 0 && bytes.length <= INLINE_BODY_LIMIT) entries.set(key, { bytes, until: now() + ttlMs });
    },
    forget(key) {
      entries.delete(key);
    },
  };
}
