import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ACCESS_STEPS, evictionRank, SIZE_STEPS } from '../../../src/database/eviction-order.ts';
import { type Rank, replay, type Replayed } from '../../bench/replay/ranked-cache.ts';
import { DAY_MS, distinctBytes, type Request, traceOf } from '../../bench/replay/trace.ts';
import { zipfTrace } from '../../bench/replay/zipf-trace.ts';

const lru: Rank = ({ lastAccess }) => lastAccess;
const hitRatio = ({ hits, requests }: Replayed): number => hits / requests;
const byteHitRatio = ({ hitBytes, bytes }: Replayed): number => hitBytes / bytes;

describe('the rank of a body', () => {
  const body = fc.record({
    lastAccess: fc.nat(2 ** 42),
    accesses: fc.nat(5000),
    fileSize: fc.oneof(fc.nat(8 * 2 ** 20), fc.nat(2 ** 40)),
  });

  it('grows with each access and with the time of the last one, and falls with the size', () => {
    fc.assert(
      fc.property(body, body, (one, other) => {
        const better = {
          lastAccess: Math.max(one.lastAccess, other.lastAccess),
          accesses: Math.max(one.accesses, other.accesses),
          fileSize: Math.min(one.fileSize, other.fileSize),
        };
        expect(evictionRank(better)).toBeGreaterThanOrEqual(evictionRank(one));
      }),
    );
  });

  it('is a whole number, no earlier than the last access and at most sixteen days later', () => {
    fc.assert(
      fc.property(body, (one) => {
        const bonus = evictionRank(one) - one.lastAccess;
        expect(Number.isSafeInteger(bonus)).toBe(true);
        expect(bonus).toBeGreaterThanOrEqual(0);
        expect(bonus).toBeLessThanOrEqual(16 * DAY_MS);
      }),
    );
  });

  it('is the last access alone for a large body that was used once', () => {
    expect(evictionRank({ lastAccess: 1000, accesses: 1, fileSize: 4 * 2 ** 20 })).toBe(1000);
    expect(evictionRank({ lastAccess: 1000, accesses: 0, fileSize: 2 ** 40 })).toBe(1000);
  });

  it('is made of steps that ascend', () => {
    for (const steps of [ACCESS_STEPS, SIZE_STEPS]) {
      const from = steps.map((step) => step.from);
      expect(from).toEqual(from.toSorted((left, right) => left - right));
      expect(new Set(from).size).toBe(from.length);
    }
  });
});

describe('what is evicted', () => {
  it('is missed less often than by plain LRU where somebody asks for everything now and then', () => {
    for (const seed of [21, 22]) {
      const trace = zipfTrace({ seed, days: 30, requestsPerDay: 600, objects: 2000, scans: true });
      for (const part of [0.1, 0.25]) {
        const budget = distinctBytes(trace) * part;
        const [plain, ranked] = [replay(trace, budget, lru), replay(trace, budget, evictionRank)];
        expect(hitRatio(ranked)).toBeGreaterThan(hitRatio(plain) + 0.05);
        expect(byteHitRatio(ranked)).toBeGreaterThan(byteHitRatio(plain) - 0.02);
      }
    }
  });

  it('is not what is used every day when a mass query for other things comes', () => {
    const [used, others, size] = [100, 1000, 10 * 2 ** 20];
    const requests: Request[] = [];
    for (let day = 0; day < 12; day++) {
      for (let object = 0; object < used; object++)
        requests.push({ at: day * DAY_MS + object * 100, object });
    }
    for (let other = 0; other < others; other++) {
      requests.push({ at: 10.5 * DAY_MS + other * 10_000, object: used + other });
    }
    const trace = traceOf(
      'a mass query',
      requests,
      Array.from({ length: used + others }, () => size),
    );
    const misses = (rankOf: Rank): number => {
      const { requests: all, hits } = replay(trace, 2 * used * size, rankOf);
      return all - hits;
    };
    expect(misses(evictionRank)).toBe(used + others);
    expect(misses(lru)).toBe(2 * used + others);
  });
});
