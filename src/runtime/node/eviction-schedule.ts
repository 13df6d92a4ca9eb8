import { Cron } from 'croner';
import type { Cache } from '../../cache/cache.ts';

/** Evictions by the clock, until they are stopped. */
export interface EvictionSchedule {
  /** Begins no further one, and lets the one under way end after the bodies that it has begun with. */
  stop(): void;
}

/**
 * Looks again and again whether something is to be evicted. One that takes longer than until the next turn has the next
 * turns left out. Several instances may do it: one at a time finds work (`Cache.evict`).
 *
 * @param pattern of cron, in local time; null: never
 */
export function scheduleEvictions(cache: Pick<Cache, 'run'>, pattern: string | null): EvictionSchedule {
  const stopping = new AbortController();
  const stop = (): void => stopping.abort();
  if (pattern === null) return { stop };
  // The process lives for its server, not for the clock.
  const options = { protect: true, unref: true };
  const cron = new Cron(pattern, options, async () => {
    await cache.run({ kind: 'evict' }, stopping.signal);
  });
  return {
    stop() {
      cron.stop();
      stop();
    },
  };
}
