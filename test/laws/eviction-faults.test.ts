import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MetadataError } from '../../src/database/metadata-store.ts';
import { StorageError } from '../../src/storage/blob-store.ts';
import { before } from '../support/between.ts';
import {
  disorderOf,
  fetchAgain,
  fetched,
  objectsOf,
  pushed,
  stateOf,
  statesOf,
} from '../support/evictable.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { shiftedClock, withMethods } from '../support/replaced.ts';
import type { SignedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache, type TestCacheOptions } from '../support/test-cache.ts';

const HOUR_MS = 60 * 60 * 1000;
const SIZE = 10_000;

let upstream: FaultServer;
let snowcap: TestCache;
let another: TestCache | null;
let clock: ReturnType<typeof shiftedClock>;

/** A cache out of which everything goes, with what comes between. */
async function start(options: TestCacheOptions = {}): Promise<void> {
  const settings = { maxSize: 1.5 * SIZE, lowWater: 0, evictPushedAfterMs: 0 };
  snowcap = await startTestCache({
    upstreams: [upstream.url],
    clock,
    platform: { schedule: () => Promise.resolve() },
    ...options,
    settings: { ...settings, ...options.settings },
  });
}

async function two(): Promise<readonly [SignedPath, SignedPath]> {
  const first = await fetched(snowcap, upstream, { name: 'first', seed: 11, size: SIZE });
  await snowcap.settled();
  clock.advance(HOUR_MS);
  const second = await fetched(snowcap, upstream, { name: 'second', seed: 12, size: SIZE });
  await snowcap.settled();
  clock.advance(HOUR_MS);
  return [first, second];
}

beforeEach(async () => {
  upstream = await startFaultServer();
  clock = shiftedClock();
  another = null;
});

afterEach(async () => {
  await another?.close();
  await snowcap.close();
  await upstream.close();
});

describe('runners', () => {
  it('are one at a time, in one process and in several', async () => {
    const held = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    await start({
      replace: before('markEvicting', async () => {
        begun.resolve();
        await held.promise;
      }),
    });
    another = await startTestCache({ upstreams: [upstream.url], clock, sharing: snowcap });
    await two();
    const running = snowcap.cache.evict();
    await begun.promise;
    expect(await snowcap.cache.evict()).toMatchObject({ outcome: 'another_runs' });
    expect(await another.cache.evict()).toMatchObject({ outcome: 'another_runs' });
    held.resolve();
    expect(await running).toMatchObject({ outcome: 'reached' });
    expect(await another.cache.evict()).toMatchObject({ outcome: 'within_limit' });
  });

  it('do no harm to each other where the locks are down', async () => {
    const locks = {
      description: 'none',
      acquire: () => Promise.reject(new Error('the lock service is down')),
      ping: () => Promise.resolve(),
      close: () => Promise.resolve(),
    };
    await start({ replace: () => ({ locks }) });
    another = await startTestCache({
      upstreams: [upstream.url],
      clock,
      sharing: snowcap,
      replace: () => ({ locks }),
      settings: { maxSize: 1.5 * SIZE, lowWater: 0 },
    });
    const paths = await two();
    const reports = await Promise.all([snowcap.cache.evict(), another.cache.evict()]);
    expect(reports.map(({ outcome }) => outcome).sort()).not.toContain('another_runs');
    expect(await statesOf(snowcap, paths)).toEqual(['absent', 'absent']);
    expect(await disorderOf(snowcap)).toEqual([]);
  });
});

describe('a fault in the middle', () => {
  /** A storage that refuses to delete some keys. */
  function refusing(isRefused: (key: string) => boolean): NonNullable<TestCacheOptions['replace']> {
    return ({ storage }) => ({
      storage: withMethods(storage, {
        delete: async (keys) => {
          await storage.delete(keys.filter((key) => !isRefused(key)));
          if (keys.some(isRefused)) throw new StorageError('Cannot delete: access denied');
        },
      }),
    });
  }

  it('of the storage for one body: the others go, and it goes the next time', async () => {
    const refused = new Set<string>();
    await start({ replace: refusing((key) => refused.has(key)) });
    const paths = await two();
    for (const kept of [`${paths[0].hash}.narinfo`, paths[0].url]) {
      for (const path of paths) await fetchAgain(snowcap, path);
      await snowcap.settled();
      clock.advance(2 * HOUR_MS);
      refused.add(kept);
      expect(await snowcap.cache.evict()).toMatchObject({
        outcome: 'kept',
        passedOver: { fault: { nars: 1 } },
      });
      expect(await statesOf(snowcap, paths)).toEqual(['evicting', 'absent']);
      // What has no narinfo may stay; a narinfo never without its NAR.
      expect((await objectsOf(snowcap)).nars).toEqual([paths[0].url]);
      refused.clear();
      expect(await snowcap.cache.evict()).toMatchObject({
        outcome: 'within_limit',
        freed: { resumed: { nars: 1 } },
      });
      expect(await disorderOf(snowcap)).toEqual([]);
    }
  });

  it('of the storage for all: the run ends, and the next one goes on', async () => {
    let down = true;
    await start({ replace: refusing(() => down) });
    await two();
    expect(await snowcap.cache.evict()).toMatchObject({
      outcome: 'storage_fault',
      after: { presentNars: 2 },
    });
    expect(await snowcap.cache.evict()).toMatchObject({ outcome: 'storage_fault' });
    down = false;
    expect(await snowcap.cache.evict()).toMatchObject({
      outcome: 'within_limit',
      freed: { resumed: { nars: 2 } },
    });
    expect(await disorderOf(snowcap)).toEqual([]);
  });

  it('of the storage for some that never go: they keep the others neither from going nor for ever', async () => {
    const refused = new Set<string>();
    await start({ replace: refusing((key) => refused.has(key)) });
    const paths = await two();
    for (const { url } of paths) refused.add(url);
    expect(await snowcap.cache.evict()).toMatchObject({ outcome: 'storage_fault' });
    const own = async (): Promise<readonly SignedPath[]> => {
      const seeds = [30, 31, 32];
      const stored = seeds.map((seed) => pushed(snowcap, { name: `own-${seed}`, seed, size: SIZE }));
      return await Promise.all(stored);
    };
    await own();
    clock.advance(HOUR_MS);
    expect(await snowcap.cache.evict()).toMatchObject({ freed: { pushed: { nars: 3 } } });
    // Where nothing goes at all, no more than one body is tried in vain.
    for (const { url } of await own()) refused.add(url);
    clock.advance(HOUR_MS);
    expect(await snowcap.cache.evict()).toMatchObject({ outcome: 'storage_fault' });
    expect(await snowcap.services.upkeep.listEvicting(0, 10)).toHaveLength(3);
    refused.clear();
    expect(await snowcap.cache.evict()).toMatchObject({ after: { presentNars: 0 } });
    expect(await disorderOf(snowcap)).toEqual([]);
  });

  it.each(['spareEvicting', 'finishEvicting'] as const)(
    'of the index at %s: the next run goes on',
    async (step) => {
      await start({ replace: before(step, () => Promise.reject(new MetadataError('the index is gone'))) });
      await two();
      await expect(snowcap.cache.evict()).rejects.toThrow('the index is gone');
      expect(snowcap.metric('snowcap_eviction_runs_total', { outcome: 'failed' })).toBe(1);
      expect(await snowcap.cache.evict()).toMatchObject({ freed: { resumed: { nars: 2 } } });
      expect(await disorderOf(snowcap)).toEqual([]);
    },
  );

  it('of a run that died before a pin came: what is left of a body that is to stay is put right', async () => {
    for (const isLeft of [true, false]) {
      await start({
        replace: before('spareEvicting', () => Promise.reject(new MetadataError('the index is gone'))),
      });
      const [first] = await two();
      await expect(snowcap.cache.evict()).rejects.toThrow('the index is gone');
      const { storage, upkeep } = snowcap.services;
      await storage.delete(isLeft ? [`${first.hash}.narinfo`] : [`${first.hash}.narinfo`, first.url]);
      const { hash, storePath } = first;
      await upkeep.putPin({ name: 'late', hash, storePath, createdAt: clock.now(), expiresAt: null });
      await snowcap.cache.evict();
      expect(await stateOf(snowcap, first)).toBe(isLeft ? 'present' : 'absent');
      expect((await objectsOf(snowcap)).narInfos).toEqual(isLeft ? [first.hash] : []);
      expect(await disorderOf(snowcap)).toEqual([]);
      if (isLeft) await snowcap.close();
    }
  });
});
