import { LRUCache } from 'lru-cache';
import type { Clock } from '../platform.ts';

/** Store paths that every upstream said no to, for a short while. */
export interface NegativeMemory {
  has(hash: string): boolean;
  add(hash: string): void;
  /** A path of this hash came into being here. */
  forget(hash: string): void;
}

const MOST_REMEMBERED = 20_000;

/** @param ttlMs milliseconds; 0 remembers nothing */
export function createNegativeMemory(ttlMs: number, clock: Clock): NegativeMemory {
  if (ttlMs === 0) return { has: () => false, add: () => undefined, forget: () => undefined };
  const until = new LRUCache<string, number>({ max: MOST_REMEMBERED });
  return {
    has(hash) {
      const end = until.get(hash);
      return end !== undefined && clock.now() < end;
    },
    add(hash) {
      until.set(hash, clock.now() + ttlMs);
    },
    forget(hash) {
      until.delete(hash);
    },
  };
}
