import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { download } from '../support/download.ts';
import { disorderOf, fetchAgain, fetched, pushed, stateOf } from '../support/evictable.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { shiftedClock } from '../support/replaced.ts';
import { publish, type SignedPath, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache } from '../support/test-cache.ts';

const HOUR_MS = 60 * 60 * 1000;
const SIZE = 10_000;

let upstream: FaultServer;
let snowcap: TestCache;
let clock: ReturnType<typeof shiftedClock>;

/** A cache whose bodies all go, as soon as nothing keeps them. */
beforeEach(async () => {
  upstream = await startFaultServer();
  clock = shiftedClock();
  snowcap = await startTestCache({
    upstreams: [upstream.url],
    clock,
    platform: { schedule: () => Promise.resolve() },
    settings: { maxSize: 2 * SIZE, lowWater: 0, evictPushedAfterMs: 0 },
  });
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

/** Stores so much beside the path that everything has to go. */
async function evicted(path: SignedPath): Promise<SignedPath> {
  await fetched(snowcap, upstream, { name: 'another', seed: 1000, size: 1.5 * SIZE });
  await snowcap.settled();
  clock.advance(HOUR_MS);
  expect(await snowcap.cache.evict()).toMatchObject({ outcome: 'reached', after: { presentNars: 0 } });
  expect(await stateOf(snowcap, path)).toBe('absent');
  expect(await disorderOf(snowcap)).toEqual([]);
  return path;
}

async function statusOf(path: string): Promise<number> {
  return (await snowcap.get(path)).status;
}

describe('law 9: what was evicted and an upstream can give again', () => {
  it('is known as before: its narinfo is answered with every upstream down', async () => {
    const path = await fetched(snowcap, upstream, { size: SIZE });
    const before = await (await snowcap.get(`/${path.hash}.narinfo`)).text();
    await evicted(path);
    await upstream.down();
    const answer = await snowcap.get(`/${path.hash}.narinfo`);
    expect([answer.status, await answer.text()]).toEqual([200, before]);
    expect(await statusOf(`/${path.url}`)).toBe(502);
    await upstream.up();
  });

  it('is fetched and stored again under its URL, with its narinfo', async () => {
    const path = await evicted(await fetched(snowcap, upstream, { size: SIZE, compression: 'zstd' }));
    const nar = await download(`${snowcap.url}/${path.url}`);
    expect(nar.bytes.equals(path.body)).toBe(true);
    await snowcap.settled();
    expect(await stateOf(snowcap, path)).toBe('present');
    expect(await snowcap.services.storage.head(`${path.hash}.narinfo`)).not.toBeNull();
    expect(await disorderOf(snowcap)).toEqual([]);
  });
});

describe('law 9: what was pushed and has been evicted', () => {
  it('is not there any more, where no upstream has it: for its narinfo and for its old URL', async () => {
    const path = await evicted(await pushed(snowcap, { size: SIZE }));
    expect(await statusOf(`/${path.hash}.narinfo`)).toBe(404);
    expect(await statusOf(`/${path.url}`)).toBe(404);
    expect(await statusOf(`/${path.hash}.ls`)).toBe(404);
  });

  it('is not called missing while the upstreams cannot be asked', async () => {
    const path = await evicted(await pushed(snowcap, { size: SIZE }));
    await upstream.down();
    expect(await statusOf(`/${path.hash}.narinfo`)).toBe(502);
    expect(await statusOf(`/${path.url}`)).toBe(502);
    await upstream.up();
    expect(await statusOf(`/${path.hash}.narinfo`)).toBe(404);
  });

  it('comes from an upstream that has the very same, and is obtainable from then on', async () => {
    const path = await evicted(await pushed(snowcap, { size: SIZE }));
    publish(upstream, path);
    await fetchAgain(snowcap, path);
    await snowcap.settled();
    const known = await snowcap.services.metadata.getPath(path.hash);
    expect(known?.nar).toMatchObject({ state: 'present', source: { upstream: upstream.url, url: path.url } });
    expect(known?.path.origin).toBe(upstream.url);
    expect(await disorderOf(snowcap)).toEqual([]);
    const { upkeep } = snowcap.services;
    const page = { after: null, accessedBefore: Number.MAX_SAFE_INTEGER, now: 0, limit: 10 };
    expect(await upkeep.listEvictable({ ...page, pushed: true })).toEqual([]);
    expect(await upkeep.listEvictable({ ...page, pushed: false })).toHaveLength(1);
  });

  it('comes from an upstream that encodes it otherwise, and its old URL is answered while anybody has that', async () => {
    const path = await evicted(await pushed(snowcap, { size: SIZE }));
    const other = await signedPath({ size: SIZE, compression: 'zstd' });
    expect(other.hash).toBe(path.hash);
    publish(upstream, other);
    await fetchAgain(snowcap, other);
    expect(await statusOf(`/${path.url}`)).toBe(404);
    upstream.route(`/${path.url}`, { body: path.body });
    const nar = await download(`${snowcap.url}/${path.url}`);
    expect([nar.status, nar.bytes.equals(path.body)]).toEqual([200, true]);
  });

  it('is answered again once it was pushed again', async () => {
    const path = await evicted(await pushed(snowcap, { size: SIZE }));
    expect(await statusOf(`/${path.hash}.narinfo`)).toBe(404);
    await pushed(snowcap, { size: SIZE });
    await fetchAgain(snowcap, path);
  });
});
