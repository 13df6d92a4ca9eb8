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

/** What was told and what waits in this process. */
export interface RecencyMemory {
  /** The hour in which each key was last told, so that a busy key costs one batch entry an hour. */
  readonly told: LRUCache<string, number>;
  /** Keys with the milliseconds since the epoch of their last access. */
  waiting: Map<string, number>;
  /** Milliseconds since the epoch. */
  lastFlush: number;
}

/** @param now milliseconds since the epoch */
export function createRecencyMemory(now: number): RecencyMemory {
  return { told: new LRUCache({ max: MOST_REMEMBERED }), waiting: new Map(), lastFlush: now };
}

export function createRecency(
  { metadata, platform }: Pick<CacheServices, 'metadata' | 'platform'>,
  memory: RecencyMemory,
): Recency {
  const { clock } = platform;
  const { told } = memory;
  // Where the process may be gone a moment later, nothing waits for company.
  const flushEveryMs = platform.fillsOutliveClients ? FLUSH_EVERY_MS : 0;

  async function flush(): Promise<void> {
    memory.lastFlush = clock.now();
    if (memory.waiting.size === 0) return;
    const batch = [...memory.waiting].map(([key, at]) => ({ key, at }));
    memory.waiting = new Map();
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
        memory.waiting.set(key, now);
      }
      const { size } = memory.waiting;
      if (size >= MOST_WAITING || (size > 0 && now - memory.lastFlush >= flushEveryMs)) {
        platform.defer('record accesses', flush());
      }
    },
  };
}
