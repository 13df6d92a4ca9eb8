import type { Platform } from '../platform.ts';
import { type AdoptionMemory, createAdoptionMemory } from './adoption.ts';
import { type BucketTrustMemory, createBucketTrustMemory } from './bucket-trust.ts';
import { type Budget, createBudget } from './budget.ts';
import { createEvictionMemory, type EvictionMemory } from './evict/evictions.ts';
import { createKeysInUse, type KeysInUse } from './evict/in-use.ts';
import { createDistrustMemory, type DistrustMemory } from './fill/sources.ts';
import { createUnlistableMemory, type UnlistableMemory } from './get-listing.ts';
import { createNarInfoMemory, type NarInfoMemory } from './get-nar-info.ts';
import { createNarMemory, type NarMemory } from './nar-memory.ts';
import { createNegativeMemory, type NegativeMemory } from './negative-memory.ts';
import { createRecencyMemory, type RecencyMemory } from './recency.ts';
import { createScheduleMemory, type ScheduleMemory } from './schedule.ts';
import type { CacheSettings } from './services.ts';

/**
 * What a process remembers from one request to the next: values alone, never a promise, a timer, a connection or
 * anything else that belongs to a request. Where a cache is wired anew for each request (on Workers, what one request
 * has opened or awaits must not be touched by another), all of them share this.
 */
export interface CacheMemory {
  readonly narInfos: NarInfoMemory;
  readonly negative: NegativeMemory;
  readonly nars: NarMemory;
  /** Memory for bodies in flight. */
  readonly buffers: Budget;
  /** Local disk for bodies in flight. */
  readonly spoolSpace: Budget;
  readonly recency: RecencyMemory;
  readonly adoption: AdoptionMemory;
  readonly distrust: DistrustMemory;
  readonly unlistable: UnlistableMemory;
  readonly bucketTrust: BucketTrustMemory;
  readonly scheduled: ScheduleMemory;
  readonly eviction: EvictionMemory;
  readonly inUse: KeysInUse;
}

/**
 * How long a share of a budget, or a stored body, is believed to be in use, in milliseconds, where a request may end without a word (a
 * Worker's client leaves, or its limits are passed: then no `finally` runs). Longer than any transfer takes there.
 */
const LONGEST_RESERVATION_MS = 15 * 60 * 1000;

export function createCacheMemory(
  settings: CacheSettings,
  { clock, metrics, fillsOutliveClients }: Pick<Platform, 'clock' | 'metrics' | 'fillsOutliveClients'>,
): CacheMemory {
  const now = (): number => clock.now();
  const expiry = fillsOutliveClients ? undefined : { now, afterMs: LONGEST_RESERVATION_MS };
  return {
    narInfos: createNarInfoMemory(settings.narInfoTtlMs, now),
    negative: createNegativeMemory(settings.negativeTtlMs, clock),
    nars: createNarMemory(settings.narInfoTtlMs, settings.bufferLimit, now),
    buffers: createBudget(
      settings.bufferLimit,
      (bytes) => metrics.gauge('snowcap_buffer_bytes', bytes),
      expiry,
    ),
    spoolSpace: createBudget(
      settings.spoolLimit,
      (bytes) => metrics.gauge('snowcap_spool_bytes', bytes),
      expiry,
    ),
    recency: createRecencyMemory(now()),
    adoption: createAdoptionMemory(),
    distrust: createDistrustMemory(now),
    unlistable: createUnlistableMemory(),
    bucketTrust: createBucketTrustMemory(),
    scheduled: createScheduleMemory(),
    eviction: createEvictionMemory(now()),
    inUse: createKeysInUse(expiry),
  };
}
