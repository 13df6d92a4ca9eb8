import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BackgroundJob } from '../../src/platform.ts';
import { disorderOf, fetched, pushed, stateOf } from '../support/evictable.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { shiftedClock, withMethods } from '../support/replaced.ts';
import type { SignedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache, type TestCacheOptions } from '../support/test-cache.ts';

const HOUR_MS = 60 * 60 * 1000;
const SIZE = 10_000;
/** Of everything that is above the limit, so much goes. */
const SETTINGS = { maxSize: 3.5 * SIZE, lowWater: 0.5 };

let upstream: FaultServer;
let snowcap: TestCache;
let clock: ReturnType<typeof shiftedClock>;
let jobs: BackgroundJob[];

async function start(options: TestCacheOptions = {}): Promise<void> {
  const settings = { ...SETTINGS, ...options.settings };
  snowcap = await startTestCache({ upstreams: [upstream.url], clock, ...options, settings });
}

/** A runtime whose work ends with its requests, with a queue. */
const withQueue: TestCacheOptions = {
  platform: { fillsOutliveClients: false, schedule: (job) => Promise.resolve(void jobs.push(job)) },
};

let seeds = 0;
async function fill(): Promise<SignedPath> {
  seeds += 1;
  const path = await fetched(snowcap, upstream, { name: `path-${seeds}`, seed: seeds, size: SIZE });
  await snowcap.settled();
  return path;
}

beforeEach(async () => {
  upstream = await startFaultServer();
  clock = shiftedClock();
  jobs = [];
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

describe('a fill that passes the limit', () => {
  it('is followed by an eviction in a process that lives on', async () => {
    await start();
    const old = [await fill(), await fill(), await fill()];
    clock.advance(HOUR_MS);
    expect(snowcap.metric('snowcap_eviction_runs_total')).toBe(0);
    const newest = await fill();
    expect(snowcap.metric('snowcap_eviction_runs_total', { outcome: 'reached' })).toBe(1);
    expect((await snowcap.services.metadata.totals()).presentNars).toBe(1);
    expect(await stateOf(snowcap, newest)).toBe('present');
    expect(await disorderOf(snowcap)).toEqual([]);
    expect(old).toHaveLength(3);
  });

  it('is looked at after the answer, by the counters alone, and rarely where little is stored', async () => {
    const settings = { maxSize: 1000 * SIZE };
    await start({ settings });
    // 1 % is ten bodies.
    for (let nth = 0; nth < 9; nth += 1) await fill();
    expect(snowcap.operations['metadata.totals'] ?? 0).toBe(0);
    await fill();
    await fill();
    expect(snowcap.operations['metadata.totals']).toBe(1);
    clock.advance(31_000);
    await fill();
    expect(snowcap.operations['metadata.totals']).toBe(2);
    await fill();
    expect(snowcap.operations['metadata.totals']).toBe(2);
    expect(snowcap.metric('snowcap_eviction_runs_total')).toBe(0);
  });

  it('is not followed by one run after the other where all of it must stay', async () => {
    await start();
    for (let nth = 0; nth < 6; nth += 1) await fill();
    const runs = (): number => snowcap.metric('snowcap_eviction_runs_total', { outcome: 'kept' });
    expect(runs()).toBe(1);
    clock.advance(61_000);
    for (let nth = 0; nth < 3; nth += 1) await fill();
    expect(runs()).toBe(2);
  });

  it('hands the eviction over where the process ends with its requests, once for a while', async () => {
    await start(withQueue);
    for (let nth = 0; nth < 6; nth += 1) await fill();
    expect(jobs).toEqual([{ kind: 'evict' }]);
    expect(snowcap.metric('snowcap_eviction_runs_total')).toBe(0);
    clock.advance(HOUR_MS);
    expect(await snowcap.cache.run({ kind: 'evict' })).toEqual({ kind: 'done' });
    expect((await snowcap.services.metadata.totals()).presentNars).toBe(1);
    expect(await snowcap.cache.run({ kind: 'evict' })).toEqual({ kind: 'done' });
  });

  it('leaves it to the schedule where nothing takes jobs', async () => {
    await start({ platform: { fillsOutliveClients: false } });
    for (let nth = 0; nth < 4; nth += 1) await fill();
    expect(snowcap.metric('snowcap_eviction_runs_total')).toBe(0);
  });

  it('counts what is adopted as well', async () => {
    await start({ ...withQueue, settings: { ...SETTINGS, maxSize: 1.5 * SIZE } });
    await fill();
    const path = await fetched(snowcap, upstream, { name: 'lost', seed: 777, size: SIZE });
    await snowcap.settled();
    jobs.length = 0;
    clock.advance(HOUR_MS);
    const { generation = 0 } = (await snowcap.services.metadata.getNar(path.url))?.nar ?? {};
    await snowcap.services.metadata.markAbsent(path.url, generation);
    expect(await snowcap.cache.run({ kind: 'verify', key: path.url })).toEqual({ kind: 'done' });
    await snowcap.settled();
    expect(jobs).toContainEqual({ kind: 'evict' });
  });
});

describe('a job that evicts', () => {
  it('that is out of time hands the rest over, as long as it gets on', async () => {
    const time = new AbortController();
    await start({
      ...withQueue,
      settings: { maxSize: 60_000, lowWater: 0 },
      replace: ({ upkeep }) => ({
        upkeep: withMethods(upkeep, {
          finishEvicting: async (nars) => {
            time.abort();
            return await upkeep.finishEvicting(nars);
          },
        }),
      }),
    });
    for (let nth = 0; nth < 300; nth += 1) {
      const { url } = await pushed(snowcap, { name: `small-${nth}`, seed: nth + 1, size: 200 });
      await snowcap.services.upkeep.markObtainable(url, null);
    }
    clock.advance(HOUR_MS);
    expect(await snowcap.cache.run({ kind: 'evict' }, time.signal)).toEqual({ kind: 'done' });
    expect(jobs).toEqual([{ kind: 'evict' }]);
    expect((await snowcap.services.metadata.totals()).presentNars).toBe(100);
    // One that does nothing is tried again by who has it, and not for ever.
    for (let nth = 0; nth < 100; nth += 1) {
      const { url } = await pushed(snowcap, { name: `more-${nth}`, seed: nth + 1000, size: 600 });
      await snowcap.services.upkeep.markObtainable(url, null);
    }
    clock.advance(HOUR_MS);
    expect(await snowcap.cache.run({ kind: 'evict' }, time.signal)).toMatchObject({ kind: 'later' });
    expect(jobs).toHaveLength(1);
    expect(await snowcap.cache.run({ kind: 'evict' })).toEqual({ kind: 'done' });
    expect(await disorderOf(snowcap)).toEqual([]);
  });

  it('is not tried again where another one runs', async () => {
    await start(withQueue);
    const lease = await snowcap.drivers.locks.acquire('evict', { leaseMs: 60_000, waitMs: 0 });
    expect(await snowcap.cache.run({ kind: 'evict' })).toMatchObject({ kind: 'nothing' });
    await lease?.release();
    expect(await snowcap.cache.run({ kind: 'evict' })).toEqual({ kind: 'done' });
  });
});

describe('a shutdown', () => {
  it('ends an eviction after its batch', async () => {
    const begun = Promise.withResolvers<void>();
    await start({
      settings: { maxSize: 50_000, lowWater: 0 },
      platform: { schedule: () => Promise.resolve() },
      replace: ({ upkeep }) => ({
        upkeep: withMethods(upkeep, {
          spareEvicting: async (...given) => {
            begun.resolve();
            return await upkeep.spareEvicting(...given);
          },
        }),
      }),
    });
    for (let nth = 0; nth < 300; nth += 1) {
      const { url } = await pushed(snowcap, { name: `small-${nth}`, seed: nth + 1, size: 200 });
      await snowcap.services.upkeep.markObtainable(url, null);
    }
    clock.advance(HOUR_MS);
    const evicting = snowcap.cache.evict();
    await begun.promise;
    await snowcap.cache.drain(AbortSignal.timeout(5000));
    expect(await evicting).toMatchObject({ outcome: 'out_of_time', freed: { obtainable: { nars: 200 } } });
    expect(await disorderOf(snowcap)).toEqual([]);
  });
});
