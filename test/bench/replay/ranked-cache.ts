import { GRACE_MS } from '../../../src/cache/evict/eviction-run.ts';
import { HOUR_MS, type Trace } from './trace.ts';

/** What a replay has come to. */
export interface Replayed {
  readonly requests: number;
  readonly bytes: number;
  /** Requests that were answered from the storage, and their bytes; the others went upstream. */
  readonly hits: number;
  readonly hitBytes: number;
  readonly evictions: number;
}

/** What the index knows of a body. */
export interface Known {
  /** Milliseconds, recorded. */
  readonly lastAccess: number;
  /** Recorded ones, those before the last eviction too. */
  readonly accesses: number;
  /** Bytes. */
  readonly fileSize: number;
  /** When the body was stored, in milliseconds. */
  readonly storedAt: number;
}

/** In milliseconds: the lowest goes first. */
export type Rank = (known: Known) => number;

const LOW_WATER = 0.9;

/**
 * Replays the requests against a storage of `budget` bytes, as the product keeps it: a process tells the index of an access
 * at most once in each hour of the clock, the index records it if the last one is more than an hour ago; a fill counts as an
 * access, and accesses outlive evictions; a fill that passes the budget brings an eviction down to 90 %; a body larger than the
 * budget is not stored.
 */
export function replay({ times, objects, sizes }: Trace, budget: number, rankOf: Rank): Replayed {
  const lastAccess = new Float64Array(sizes.length).fill(-Infinity);
  const storedAt = new Float64Array(sizes.length);
  const accesses = new Uint32Array(sizes.length);
  const rank = new Float64Array(sizes.length);
  const toldHour = new Int32Array(sizes.length).fill(-1);
  const present = new Set<number>();
  const size = (object: number): number => sizes[object] ?? 0;
  let used = 0;
  let bytes = 0;
  let hits = 0;
  let hitBytes = 0;
  let evictions = 0;

  function record(object: number, now: number): void {
    const before = lastAccess[object] ?? 0;
    if (now > before + HOUR_MS) accesses[object] = (accesses[object] ?? 0) + 1;
    lastAccess[object] = now;
    rank[object] = rankOf({
      lastAccess: now,
      accesses: accesses[object] ?? 0,
      fileSize: size(object),
      storedAt: storedAt[object] ?? 0,
    });
  }

  function touch(object: number, now: number): void {
    const hour = Math.floor(now / HOUR_MS);
    if (toldHour[object] === hour) return;
    toldHour[object] = hour;
    if (now > (lastAccess[object] ?? 0) + HOUR_MS) record(object, now);
  }

  /** A rank with its object as one number: numbers are sorted ten times as fast as objects. */
  function sortKey(object: number): number {
    return Math.floor(rank[object] ?? 0) * sizes.length + object;
  }

  function evict(now: number): void {
    const evictable = [...present].filter((object) => (lastAccess[object] ?? 0) < now - GRACE_MS);
    for (const key of Float64Array.from(evictable, sortKey).sort()) {
      if (used <= budget * LOW_WATER) break;
      const object = key - Math.floor(key / sizes.length) * sizes.length;
      present.delete(object);
      used -= size(object);
      evictions += 1;
    }
  }

  for (let request = 0; request < objects.length; request++) {
    const object = objects[request] ?? 0;
    const now = times[request] ?? 0;
    bytes += size(object);
    if (present.has(object)) {
      hits += 1;
      hitBytes += size(object);
      touch(object, now);
    } else if (size(object) <= budget) {
      present.add(object);
      used += size(object);
      storedAt[object] = now;
      record(object, now);
      if (used > budget) evict(now);
    }
  }
  return { requests: objects.length, bytes, hits, hitBytes, evictions };
}
