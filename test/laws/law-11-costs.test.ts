import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { LockManager } from '../../src/lock/lock-manager.ts';
import { type Cost, costOf, costTable } from '../support/cost-table.ts';
import { download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { servedKey, withMethods } from '../support/replaced.ts';
import { REQUEST_COSTS } from '../support/request-costs.ts';
import { publish, type SignedPath, signedPath } from '../support/signed-path.ts';
import { startStoreServer, type StoreServer } from '../support/store-server.ts';
import { startTestCache, type TestCache, type TestCacheOptions } from '../support/test-cache.ts';

let upstream: FaultServer;
let store: StoreServer;
let snowcap: TestCache;

/** Commands that the lock service got once a lock was held. */
let released: number;

function countingReleases(locks: LockManager): LockManager {
  return withMethods(locks, {
    async acquire(name, options) {
      const lease = await locks.acquire(name, options);
      if (lease === null) return null;
      const release = (): Promise<void> => {
        released += 1;
        return lease.release();
      };
      return { ...lease, release };
    },
  });
}

async function start(options: TestCacheOptions = {}): Promise<void> {
  snowcap = await startTestCache({
    upstreams: [`${upstream.url}?priority=1`],
    storage: 'file',
    ...options,
    replace: ({ storage, locks }) => ({ storage: store.serving(storage), locks: countingReleases(locks) }),
  });
}

async function known(
  size = 1_500_000,
): Promise<{ readonly path: SignedPath; readonly url: string; readonly key: string }> {
  const path = await signedPath({ size });
  publish(upstream, path);
  const key = await servedKey(snowcap, path);
  return { path, key, url: `${snowcap.url}/${key}` };
}

async function cost(work: () => Promise<unknown>): Promise<Cost> {
  const before = released;
  const counted = await costOf(
    snowcap,
    () => upstream.requests.length,
    async () => {
      await work();
      await snowcap.settled();
    },
  );
  return { ...counted, locks: counted.locks + released - before };
}

beforeEach(async () => {
  released = 0;
  upstream = await startFaultServer();
  store = await startStoreServer();
});

afterEach(async () => {
  await snowcap.close();
  await store.close();
  await upstream.close();
});

const redirecting = (fillBeforeRedirect: number | null): TestCacheOptions => ({
  settings: { delivery: 'redirect', fillBeforeRedirect },
  platform: { fillsOutliveClients: false, schedule: () => Promise.resolve() },
});

describe('law 11: what a request costs', () => {
  it('for a narinfo', async () => {
    await start();
    const path = await signedPath();
    publish(upstream, path);
    const ask = (): Promise<Response> => snowcap.get(`/${path.hash}.narinfo`);
    expect(await cost(ask)).toEqual(REQUEST_COSTS['narinfo, cold']);
    expect(await cost(ask)).toEqual(REQUEST_COSTS['narinfo, known']);
    const head = (): Promise<Response> => snowcap.get(`/${path.hash}.narinfo`, { method: 'HEAD' });
    expect(await cost(head)).toEqual(REQUEST_COSTS['narinfo, known']);
  });

  it('for a narinfo that was answered lately', async () => {
    await start({ settings: { narInfoTtlMs: 60_000 } });
    const path = await signedPath();
    publish(upstream, path);
    const ask = (): Promise<Response> => snowcap.get(`/${path.hash}.narinfo`);
    await ask();
    expect(await cost(ask)).toEqual(REQUEST_COSTS['narinfo, in memory']);
  });

  it('for a narinfo that nobody has', async () => {
    await start({ settings: { negativeTtlMs: 60_000 } });
    const path = await signedPath();
    const ask = async (): Promise<void> => {
      expect((await snowcap.get(`/${path.hash}.narinfo`)).status).toBe(404);
    };
    expect(await cost(ask)).toEqual(REQUEST_COSTS['narinfo, unknown']);
    expect(await cost(ask)).toEqual(REQUEST_COSTS['narinfo, unknown, asked for again']);
  });

  it.each([
    ['disk', 'NAR, cold, spooled'],
    ['none', 'NAR, cold, without a spool'],
  ] as const)('for a NAR through us (spool: %s)', async (spool, name) => {
    await start({ spool });
    const { url } = await known();
    expect(await cost(() => download(url))).toEqual(REQUEST_COSTS[name]);
    expect(await cost(() => download(url))).toEqual(REQUEST_COSTS['NAR, stored, through us']);
    const range = { headers: { range: 'bytes=5-9' } };
    expect(await cost(() => download(url, range))).toEqual(REQUEST_COSTS['NAR, stored, through us']);
    expect(await cost(() => download(url, { method: 'HEAD' }))).toEqual(REQUEST_COSTS['NAR, stored, HEAD']);
    expect(await cost(() => download(`${snowcap.url}/nar/unknown.nar`))).toEqual(
      REQUEST_COSTS['NAR, unknown'],
    );
  });

  it('for a NAR that is redirected to, of which no byte comes through us', async () => {
    await start(redirecting(2_000_000));
    const { url } = await known();
    expect(await cost(() => download(url))).toEqual(
      REQUEST_COSTS['NAR, cold, stored first and redirected to'],
    );
    const bytes = snowcap.metric('snowcap_body_bytes_total', { route: 'nar' });
    expect(await cost(() => download(url))).toEqual(REQUEST_COSTS['NAR, stored, redirected']);
    expect(bytes).toBe(0);
    expect(snowcap.metric('snowcap_body_bytes_total', { route: 'nar' })).toBe(0);
  });

  it('for a NAR that is redirected to its upstream, and for the job that stores it', async () => {
    await start(redirecting(1_000));
    const { url, key } = await known();
    expect(await cost(() => download(url))).toEqual(REQUEST_COSTS['NAR, cold, redirected to its upstream']);
    expect(await cost(() => snowcap.cache.run({ kind: 'fill', key }))).toEqual(
      REQUEST_COSTS['NAR, cold, filled by a job'],
    );
  });

  it('is this', () => {
    process.stdout.write(`\n${costTable(REQUEST_COSTS)}\n`);
    expect(costTable(REQUEST_COSTS).split('\n')).toHaveLength(Object.keys(REQUEST_COSTS).length + 2);
  });
});
