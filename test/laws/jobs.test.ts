import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BackgroundJob } from '../../src/platform.ts';
import { StorageError } from '../../src/storage/blob-store.ts';
import { download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { servedKey, shiftedClock, withMethods } from '../support/replaced.ts';
import { publish, type SignedPath, signedPath, withOtherBody } from '../support/signed-path.ts';
import { startTestCache, type TestCache, type TestCacheOptions, until } from '../support/test-cache.ts';

let upstream: FaultServer;
let snowcap: TestCache;
let jobs: BackgroundJob[];
const clock = shiftedClock();

/** A runtime whose work ends with its requests, with a queue. */
async function start(options: TestCacheOptions = {}): Promise<void> {
  snowcap = await startTestCache({
    upstreams: [upstream.url],
    storage: 'file',
    clock,
    platform: {
      fillsOutliveClients: false,
      schedule: (job) => Promise.resolve(void jobs.push(job)),
    },
    ...options,
  });
}

async function known(path: SignedPath, behaviour: Parameters<typeof publish>[2] = {}): Promise<string> {
  publish(upstream, path, behaviour);
  return await servedKey(snowcap, path);
}

async function stateOf(key: string): Promise<readonly (string | undefined)[]> {
  const nar = (await snowcap.services.metadata.getNar(key))?.nar;
  return [nar?.state, nar?.verification];
}

beforeEach(async () => {
  upstream = await startFaultServer();
  jobs = [];
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

describe('a job that fills', () => {
  it.each(['disk', 'none'] as const)('stores a NAR that nobody reads (spool: %s), once', async (spool) => {
    await start({ spool });
    const path = await signedPath({ size: 2_000_000 });
    const key = await known(path);
    expect(await snowcap.cache.run({ kind: 'fill', key })).toEqual({ kind: 'done' });
    expect(await stateOf(key)).toEqual(['present', 'nar']);
    expect(await snowcap.services.storage.head(`${path.hash}.narinfo`)).not.toBeNull();
    expect(await snowcap.cache.run({ kind: 'fill', key })).toEqual({
      kind: 'nothing',
      reason: 'it is stored already',
    });
    expect(upstream.requestsTo(`/${path.url}`)).toHaveLength(1);
    await snowcap.settled();
  });

  it('twice at once is one download', async () => {
    await start();
    const path = await signedPath({ size: 2_000_000 });
    const key = await known(path);
    const outcomes = await Promise.all([1, 2].map(() => snowcap.cache.run({ kind: 'fill', key })));
    expect(outcomes).toEqual([{ kind: 'done' }, { kind: 'done' }]);
    expect(upstream.requestsTo(`/${path.url}`)).toHaveLength(1);
  });

  it('goes on where a client that joined it leaves, as it does where it joined the client', async () => {
    await start();
    const path = await signedPath({ size: 2_000_000 });
    const key = await known(path, { bytesPerSecond: 6_000_000 });
    const left = download(`${snowcap.url}/${key}`, { leaveAfter: 300_000 });
    await until(() => upstream.requestsTo(`/${path.url}`).length === 1);
    const outcome = snowcap.cache.run({ kind: 'fill', key });
    expect((await left).ended).toBe('broken');
    expect(await outcome).toEqual({ kind: 'done' });
    expect(jobs).toEqual([]);
  });

  it('is tried again where it may succeed later, and not where it cannot', async () => {
    await start({ settings: { maxSize: 1_000_000, fillWaitMs: 50 } });
    const [wrong, large, gone, taken] = await Promise.all(
      (['wrong', 'large', 'gone', 'taken'] as const).map((name, nth) =>
        signedPath({ name, seed: nth, size: name === 'large' ? 1_200_000 : 200_000 }),
      ),
    );
    if (wrong === undefined || large === undefined || gone === undefined || taken === undefined) return;
    const run = async (path: SignedPath, behaviour: Parameters<typeof publish>[2]): Promise<unknown> =>
      await snowcap.cache.run({ kind: 'fill', key: await known(path, behaviour) });
    expect(await run(wrong, { flipBitAt: 100 })).toMatchObject({ kind: 'later', reason: /FileHash/ });
    expect(await run(large, {})).toMatchObject({ kind: 'nothing', reason: /larger than the budget/ });
    expect(await run(gone, { status: 404, body: 'gone' })).toMatchObject({ kind: 'nothing' });
    const lease = await snowcap.drivers.locks.acquire(`fill:${taken.url}`, { leaseMs: 60_000, waitMs: 0 });
    expect(await run(taken, {})).toMatchObject({ kind: 'later', reason: /another instance/ });
    await lease?.release();
    expect(await snowcap.cache.run({ kind: 'fill', key: 'nar/unknown.nar' })).toMatchObject({
      kind: 'nothing',
      reason: 'no path vouches for it',
    });
    expect(await snowcap.cache.run({ kind: 'fill', key: '../etc/passwd' })).toMatchObject({
      kind: 'nothing',
    });
    expect(await snowcap.cache.run({ kind: 'verify', key: 'nar/../x' })).toMatchObject({ kind: 'nothing' });
    await upstream.down();
    expect(await snowcap.cache.run({ kind: 'fill', key: wrong.url })).toMatchObject({ kind: 'later' });
    await upstream.up();
  });

  it('is tried again where the store fails', async () => {
    await start({
      spool: 'none',
      replace: ({ storage }) => ({
        storage: withMethods(storage, { put: () => Promise.reject(new StorageError('no space left')) }),
      }),
    });
    const small = await known(await signedPath());
    expect(await snowcap.cache.run({ kind: 'fill', key: small })).toMatchObject({ kind: 'later' });
    const large = await signedPath({ name: 'large', size: 3_000_000 });
    const key = await known(large, { bytesPerSecond: 20_000_000 });
    expect(await snowcap.cache.run({ kind: 'fill', key })).toMatchObject({ kind: 'later' });
    await snowcap.settled();
    // It is the consumer that tries again: a job hands over none of its own kind.
    expect(jobs).toEqual([]);
  });

  it('ends when its time is over, and leaves nothing', async () => {
    await start({ upstreamSettings: { idleTimeoutMs: 10_000 } });
    const path = await signedPath({ size: 2_000_000 });
    const key = await known(path, { stallAt: 700_000, until: new Promise(() => undefined) });
    const time = new AbortController();
    const outcome = snowcap.cache.run({ kind: 'fill', key }, time.signal);
    await until(() => upstream.requestsTo(`/${path.url}`).length === 1);
    time.abort();
    expect(await outcome).toEqual({ kind: 'later', reason: 'The time for this job is over' });
    await snowcap.settled();
    expect(await snowcap.services.storage.head(key)).toBeNull();
    expect(await snowcap.cache.run({ kind: 'fill', key }, AbortSignal.abort())).toMatchObject({
      kind: 'later',
    });
  });
});

describe('a job that verifies', () => {
  it('is handed over for what a fill could not verify inline, not done on its time, and records it', async () => {
    await start();
    const path = await signedPath({ compression: 'xz', size: 400_000 });
    const key = await known(path);
    await download(`${snowcap.url}/${key}`);
    await snowcap.settled();
    expect(jobs).toEqual([{ kind: 'verify', key }]);
    expect(await stateOf(key)).toEqual(['present', 'file']);
    expect(await snowcap.cache.run({ kind: 'verify', key })).toEqual({ kind: 'done' });
    expect(await stateOf(key)).toEqual(['present', 'nar']);
    expect(await snowcap.cache.run({ kind: 'verify', key })).toEqual({ kind: 'done' });
  });

  it('removes and quarantines what is wrong, once', async () => {
    await start();
    const path = await withOtherBody({ compression: 'xz', size: 400_000 });
    const key = await known(path);
    await download(`${snowcap.url}/${key}`);
    await snowcap.settled();
    expect(await snowcap.cache.run({ kind: 'verify', key })).toEqual({ kind: 'done' });
    expect((await stateOf(key))[0]).toBe('quarantined');
    expect(await snowcap.services.storage.head(key)).toBeNull();
    expect(await snowcap.services.storage.head(`${path.hash}.narinfo`)).toBeNull();
    expect(await snowcap.cache.run({ kind: 'verify', key })).toMatchObject({ kind: 'nothing' });
    expect(await snowcap.cache.run({ kind: 'fill', key })).toMatchObject({ kind: 'nothing' });
  });

  it('adopts what a crash left, and is tried again where the storage is at fault', async () => {
    let broken = true;
    await start({
      replace: ({ storage }) => ({
        storage: withMethods(storage, {
          get: (key, options) =>
            broken && key.startsWith('nar/')
              ? Promise.reject(new StorageError('the store is gone'))
              : storage.get(key, options),
        }),
      }),
    });
    const path = await signedPath();
    const key = await known(path);
    await snowcap.drivers.storage.put(key, { kind: 'bytes', bytes: path.body });
    expect(await snowcap.cache.run({ kind: 'verify', key })).toMatchObject({ kind: 'later' });
    broken = false;
    await download(`${snowcap.url}/${key}`);
    await snowcap.settled();
    expect(jobs).toEqual([{ kind: 'verify', key }]);
    expect(await snowcap.cache.run({ kind: 'verify', key })).toEqual({ kind: 'done' });
    expect(await stateOf(key)).toEqual(['present', 'nar']);
  });
});

describe('jobs are handed over', () => {
  it('once for a while, and again where that failed', async () => {
    let fail = true;
    const path = await signedPath({ size: 2_000_000 });
    await start({
      settings: { bufferLimit: 300_000 },
      spool: 'none',
      platform: {
        fillsOutliveClients: false,
        schedule: (job) => {
          jobs.push(job);
          return fail ? Promise.reject(new Error('the queue is gone')) : Promise.resolve();
        },
      },
    });
    const key = await known(path);
    const pass = async (): Promise<void> => {
      expect((await download(`${snowcap.url}/${key}`)).ended).toBe('clean');
      await snowcap.settled();
    };
    await pass();
    fail = false;
    for (let round = 0; round < 3; round += 1) await pass();
    expect(jobs).toHaveLength(2);
    clock.advance(5 * 60_000);
    await pass();
    expect(jobs).toHaveLength(3);
    expect(snowcap.metric('snowcap_background_failures_total', { what: 'schedule' })).toBe(1);
  });

  it('not at all where nothing takes them: then such work is declined', async () => {
    await start({ platform: { fillsOutliveClients: false } });
    const path = await signedPath({ compression: 'xz', size: 400_000 });
    const key = await known(path);
    await download(`${snowcap.url}/${key}`);
    await snowcap.settled();
    expect(await stateOf(key)).toEqual(['present', 'file']);
    expect(snowcap.operations['storage.get']).toBe(1);
  });
});
