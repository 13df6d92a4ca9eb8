import { LRUCache } from 'lru-cache';
import type { CacheServices } from './services.ts';

/**
 * Remembers which NARs are used, and tells the index in batches: at most once an object and hour, never on
 * the way of an answer (law 11). What a crash loses only ages.
 */
export interface Recency {
  touch(key: string): void;
  /** Writes what is waiting. Never rejects. */
  flush(): Promise<void>;
}

const HOUR_MS = 60 * 60 * 1000;
const FLUSH_EVERY_MS = 60 * 1000;
const MOST_WAITING = 5_000;
const MOST_REMEMBERED = 100_000;

export function createRecency({ metadata, platform }: Pick<CacheServices, 'metadata' | 'platform'>): Recency {
  const { clock } = platform;
  /** The hour in which each key was last told, so that a busy key costs one batch entry an hour. */
  const told = new LRUCache<string, number>({ max: MOST_REMEMBERED });
  let waiting = new Map<string, number>();
  let lastFlush = clock.now();

  async function flush(): Promise<void> {
    lastFlush = clock.now();
    if (waiting.size === 0) return;
    const batch = [...waiting].map(([key, at]) => ({ key, at }));
    waiting = new Map();
    try {
      await metadata.touch(batch);
    } catch (error) {
      for (const { key } of batch) told.delete(key);
      platform.metrics.count('snowcap_background_failures_total', { what: 'recency' });
      platform.logger.warn('Accesses could not be recorded', { count: batch.length, error });
    }
  }

  return {
    flush,
    touch(key) {
      const now = clock.now();
      const hour = Math.floor(now / HOUR_MS);
      if (told.get(key) !== hour) {
        told.set(key, hour);
        waiting.set(key, now);
      }
      if (waiting.size >= MOST_WAITING || (waiting.size > 0 && now - lastFlush >= FLUSH_EVERY_MS)) {
        platform.defer('record accesses', flush());
      }
    },
  };
}
