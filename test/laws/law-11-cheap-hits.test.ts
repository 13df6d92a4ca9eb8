import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { servedKey, type ShiftedClock, shiftedClock } from '../support/replaced.ts';
import { publish, type SignedPath, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache, type TestCacheOptions } from '../support/test-cache.ts';

const HOUR_MS = 60 * 60 * 1000;

let upstream: FaultServer;
let snowcap: TestCache;
let clock: ShiftedClock;

async function start(options: TestCacheOptions = {}): Promise<void> {
  snowcap = await startTestCache({ upstreams: [upstream.url], storage: 'file', clock, ...options });
}

/** What `work` costs, by operation. */
async function costOf(work: () => Promise<unknown>): Promise<Record<string, number>> {
  const before = { ...snowcap.operations };
  await work();
  const cost: Record<string, number> = {};
  for (const [name, count] of Object.entries(snowcap.operations)) {
    if (count !== (before[name] ?? 0)) cost[name] = count - (before[name] ?? 0);
  }
  return cost;
}

async function stored(path: SignedPath): Promise<string> {
  publish(upstream, path);
  const key = await servedKey(snowcap, path);
  await download(`${snowcap.url}/${key}`);
  await snowcap.settled();
  return key;
}

beforeEach(async () => {
  clock = shiftedClock();
  upstream = await startFaultServer();
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

describe('law 11: a hit is cheap', () => {
  it('a narinfo is one index query and no storage operation', async () => {
    await start();
    const path = await signedPath();
    await stored(path);
    const asked = upstream.requests.length;
    expect(await costOf(() => snowcap.get(`/${path.hash}.narinfo`))).toEqual({ 'metadata.getPath': 1 });
    expect(await costOf(() => snowcap.get(`/${path.hash}.narinfo`, { method: 'HEAD' }))).toEqual({
      'metadata.getPath': 1,
    });
    expect(upstream.requests).toHaveLength(asked);
  });

  it('a narinfo from memory costs nothing, for its time', async () => {
    await start({ settings: { narInfoTtlMs: 60_000 } });
    const path = await signedPath();
    await stored(path);
    await snowcap.get(`/${path.hash}.narinfo`);
    expect(await costOf(() => snowcap.get(`/${path.hash}.narinfo`))).toEqual({});
    clock.advance(60_000);
    expect(await costOf(() => snowcap.get(`/${path.hash}.narinfo`))).toEqual({ 'metadata.getPath': 1 });
  });

  it('many clients at once that miss one narinfo cost one request and one record', async () => {
    await start();
    const path = await signedPath();
    publish(upstream, path);
    const cost = await costOf(() =>
      Promise.all([...Array(40).keys()].map(() => snowcap.get(`/${path.hash}.narinfo`))),
    );
    expect(cost['metadata.recordPath']).toBe(1);
    expect(upstream.requestsTo(`/${path.hash}.narinfo`)).toHaveLength(1);
  });

  it.each([
    [1_000, 'a small body'],
    [1_500_000, 'a large body'],
  ])(
    'a NAR of %i bytes (%s) is one storage read and no index query, whole, in part or as HEAD',
    async (size) => {
      await start();
      const path = await signedPath({ size });
      const key = await stored(path);
      const url = `${snowcap.url}/${key}`;
      expect(await costOf(() => download(url))).toEqual({ 'storage.get': 1 });
      const ranged = { headers: { range: 'bytes=100-199' } };
      expect(await costOf(() => download(url, ranged))).toEqual({ 'storage.get': 1 });
      const beyond = { headers: { range: 'bytes=99999999-' } };
      expect(await costOf(() => download(url, beyond))).toEqual({ 'storage.get': 1 });
      expect(await costOf(() => download(url, { method: 'HEAD' }))).toEqual({ 'storage.head': 1 });
      const { etag = '' } = (await download(url, { method: 'HEAD' })).headers;
      const known = { headers: { 'if-none-match': etag } };
      expect(await costOf(() => download(url, known))).toEqual({ 'storage.head': 1 });
    },
  );

  it('a listing that is stored is one storage read', async () => {
    await start();
    const path = await signedPath();
    publish(upstream, path);
    await snowcap.get(`/${path.hash}.ls`);
    await snowcap.settled();
    expect(await costOf(() => snowcap.get(`/${path.hash}.ls`))).toEqual({ 'storage.get': 1 });
  });

  it('nix-cache-info, the public key and the sign of life cost nothing', async () => {
    await start();
    for (const target of ['/nix-cache-info', '/pubkey', '/healthz', '/']) {
      expect(await costOf(() => snowcap.get(target))).toEqual({});
    }
  });
});

describe('law 11: recency', () => {
  const accesses = async (key: string, times: number): Promise<void> => {
    for (let round = 0; round < times / 50; round += 1) {
      await Promise.all([...Array(50).keys()].map(() => snowcap.cache.getNar({ key, query: '' })));
      clock.advance(HOUR_MS / 1000 / 20);
    }
    await snowcap.cache.flush();
  };
  const lastAccess = async (key: string): Promise<number> =>
    (await snowcap.services.metadata.getNar(key))?.nar.lastAccess ?? Number.NaN;

  it('a thousand hits within an hour write one row at most, and another hour writes another', async () => {
    await start();
    const key = await stored(await signedPath());
    const filled = await lastAccess(key);
    clock.advance(2 * HOUR_MS);
    const cost = await costOf(() => accesses(key, 1000));
    expect(cost['metadata.touch']).toBeLessThanOrEqual(2);
    const touched = await lastAccess(key);
    expect(touched - filled).toBeGreaterThanOrEqual(2 * HOUR_MS);
    await accesses(key, 500);
    expect(await lastAccess(key)).toBe(touched);
    clock.advance(HOUR_MS + 60_000);
    await accesses(key, 100);
    expect(await lastAccess(key)).toBeGreaterThan(touched);
  });

  it('accesses to many NARs are written in one batch, not one by one', async () => {
    await start();
    const paths = await Promise.all(
      [...Array(30).keys()].map((n) => signedPath({ name: `p-${n}`, seed: n + 1 })),
    );
    const keys = await Promise.all(paths.map(stored));
    clock.advance(2 * HOUR_MS);
    const cost = await costOf(async () => {
      for (const key of keys) await download(`${snowcap.url}/${key}`);
      await snowcap.settled();
      await snowcap.cache.flush();
    });
    expect(cost['storage.get']).toBe(30);
    expect(cost['metadata.touch']).toBeLessThanOrEqual(2);
    for (const key of keys) expect(await lastAccess(key)).toBeGreaterThan(clock.now() - HOUR_MS);
  });
});
