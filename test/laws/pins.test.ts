import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { banMirrors, pinMirrors } from '../../src/cache/mirrors.ts';
import type { Progress } from '../../src/cache/look-up-closure.ts';
import { PinError } from '../../src/cache/pins.ts';
import { baseName, fetched, pushed, stateOf, statesOf } from '../support/evictable.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { shiftedClock } from '../support/replaced.ts';
import { publish, type SignedPath, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache, type TestCacheOptions } from '../support/test-cache.ts';

const DAY_MS = 24 * 60 * 60 * 1000;

let upstream: FaultServer;
let snowcap: TestCache;
let clock: ReturnType<typeof shiftedClock>;

async function start(options: TestCacheOptions = {}): Promise<void> {
  snowcap = await startTestCache({ upstreams: [upstream.url], clock, ...options });
}

beforeEach(async () => {
  upstream = await startFaultServer();
  clock = shiftedClock();
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

/** A chain of paths at the upstream, the root first, each referring to the next and to itself. */
async function chain(length: number): Promise<readonly SignedPath[]> {
  const paths: SignedPath[] = [];
  for (let nth = length - 1; nth >= 0; nth -= 1) {
    const next = paths[0];
    const path = await signedPath({
      name: `link-${nth}`,
      seed: nth + 1,
      references: next === undefined ? [] : [baseName(next)],
    });
    publish(upstream, path);
    paths.unshift(path);
  }
  return paths;
}

async function mirrored(): Promise<readonly string[]> {
  const names: string[] = [];
  for await (const { name } of pinMirrors(snowcap.services.storage)) names.push(name);
  return names;
}

describe('a pin', () => {
  it('keeps the closure of its root, that of paths never asked for too, through every eviction', async () => {
    await start({ settings: { maxSize: 4000, lowWater: 0 } });
    const links = await chain(5);
    const [root] = links;
    if (root === undefined) return;
    const request = { name: 'chain', storePath: root.storePath, expiresAt: null };
    const seen: Progress[] = [];
    const put = await snowcap.cache.pins.put(request, { onProgress: (progress) => seen.push(progress) });
    expect(put).toMatchObject({ missing: [], exceedsLimit: false });
    expect(put.pin).toMatchObject({ name: 'chain', paths: 5, unknownPaths: 0, absentPaths: 5 });
    expect(seen.at(-1)).toEqual({ done: 5, total: 5 });
    expect(await mirrored()).toEqual(['chain']);

    expect(await snowcap.cache.pins.fetch('chain')).toEqual({ stored: 5, failed: [], failures: 0 });
    const other = await fetched(snowcap, upstream, { name: 'other', seed: 99 });
    await snowcap.settled();
    clock.advance(DAY_MS);
    const report = await snowcap.cache.evict();
    expect(report).toMatchObject({ outcome: 'kept', passedOver: { pinned: { nars: 5 } } });
    expect(report.kept?.pinned).toBe((await snowcap.services.metadata.totals()).presentBytes);
    expect(await statesOf(snowcap, links)).toEqual(links.map(() => 'present'));
    expect(await stateOf(snowcap, other)).toBe('absent');

    expect(await snowcap.cache.pins.delete('chain')).toBe(true);
    expect(await mirrored()).toEqual([]);
    await snowcap.cache.evict();
    expect(await statesOf(snowcap, links)).toEqual(links.map(() => 'absent'));
    expect(await snowcap.cache.pins.delete('chain')).toBe(false);
  });

  it('ends when it expires, with its mirror', async () => {
    await start({
      settings: { maxSize: 2000, lowWater: 0 },
      platform: { schedule: () => Promise.resolve() },
    });
    const path = await fetched(snowcap, upstream, { name: 'one' });
    const other = await fetched(snowcap, upstream, { name: 'two', seed: 2 });
    await snowcap.settled();
    const expiresAt = clock.now() + 2 * DAY_MS;
    await snowcap.cache.pins.put({ name: 'soon', storePath: path.storePath, expiresAt });
    clock.advance(DAY_MS);
    await snowcap.cache.evict();
    expect(await statesOf(snowcap, [path, other])).toEqual(['present', 'absent']);
    clock.advance(DAY_MS + 1);
    expect((await snowcap.cache.evict()).expiredPins).toEqual(['soon']);
    expect(await mirrored()).toEqual([]);
    expect(await snowcap.cache.pins.list()).toEqual([]);
  });

  it('says so where all of them are more than may be kept, and what no source has', async () => {
    await start({ settings: { maxSize: 5000 } });
    const lost = await signedPath({ name: 'lost' });
    const path = await pushed(snowcap, { name: 'one', size: 4000, references: [baseName(lost)] });
    const other = await pushed(snowcap, { name: 'two', size: 4000, seed: 2 });
    const first = await snowcap.cache.pins.put({
      name: 'a',
      storePath: path.storePath,
      expiresAt: null,
    });
    expect(first).toMatchObject({ missing: [lost.hash], exceedsLimit: false });
    const second = await snowcap.cache.pins.put({
      name: 'b',
      storePath: other.storePath,
      expiresAt: null,
    });
    expect(second).toMatchObject({ exceedsLimit: true });
    expect(snowcap.logs.some(({ message }) => message.startsWith('Pins take more than the limit'))).toBe(
      true,
    );
  });

  it.each([
    ['a name with a slash', { name: 'a/b' }, /Cannot name a pin "a\/b"/],
    ['a name with dots first', { name: '..' }, /Cannot name a pin/],
    ['no store path', { storePath: '/etc/passwd' }, /store path/],
    ['a time that is over', { expiresAt: 5 }, /expired already/],
    ['a path that nobody has', {}, /not in this cache nor in its upstreams/],
  ])('is refused for %s, and leaves nothing', async (_case, change, message) => {
    await start();
    const { storePath } = await signedPath({ name: 'nowhere' });
    const request = { name: 'x', storePath, expiresAt: null, ...change };
    await expect(snowcap.cache.pins.put(request)).rejects.toThrow(PinError);
    await expect(snowcap.cache.pins.put(request)).rejects.toThrow(message);
    expect(await mirrored()).toEqual([]);
    expect(await snowcap.cache.pins.list()).toEqual([]);
  });

  it('tells which NARs could not be had, and gets them the next time', async () => {
    await start();
    const links = await chain(3);
    const [root, middle] = links;
    if (root === undefined || middle === undefined) return;
    await snowcap.cache.pins.put({ name: 'chain', storePath: root.storePath, expiresAt: null });
    upstream.route(`/${middle.url}`, [{ status: 404 }]);
    const first = await snowcap.cache.pins.fetch('chain');
    expect(first).toMatchObject({ stored: 2, failures: 1, failed: [[middle.url, expect.any(String)]] });
    publish(upstream, middle);
    clock.advance(DAY_MS);
    expect(await snowcap.cache.pins.fetch('chain')).toMatchObject({ stored: 1, failures: 0 });
    await expect(snowcap.cache.pins.fetch('nothing')).rejects.toThrow('There is no pin "nothing"');
  });
});

describe('a path that is deleted', () => {
  it('is gone from storage and index, and comes again from an upstream', async () => {
    await start();
    const path = await fetched(snowcap, upstream, { name: 'one' });
    await snowcap.settled();
    const removed = await snowcap.cache.removals.remove(path.hash);
    expect(removed).toEqual({ kind: 'removed', storePath: path.storePath, bytes: path.body.length });
    expect(await snowcap.services.storage.head(path.url)).toBeNull();
    expect(await snowcap.services.storage.head(`${path.hash}.narinfo`)).toBeNull();
    expect(await snowcap.services.metadata.totals()).toEqual({ presentBytes: 0, presentNars: 0 });
    expect((await snowcap.get(`/${path.hash}.narinfo`)).status).toBe(200);
    expect((await snowcap.get(`/${path.url}`)).status).toBe(200);
    expect(await snowcap.cache.removals.remove('0'.repeat(32))).toEqual({ kind: 'unknown' });
  });

  it('stays where a pin keeps it, or a pushed path refers to it, unless that is forced', async () => {
    await start();
    const two = await pushed(snowcap, { name: 'two', seed: 2 });
    const three = await pushed(snowcap, { name: 'three', seed: 3, references: [baseName(two)] });
    expect(await snowcap.cache.removals.remove(two.hash)).toMatchObject({ kind: 'kept' });
    await snowcap.cache.pins.put({ name: 'x', storePath: three.storePath, expiresAt: null });
    expect(await snowcap.cache.removals.remove(three.hash)).toMatchObject({ kind: 'kept' });
    expect(await statesOf(snowcap, [two, three])).toEqual(['present', 'present']);
    expect((await snowcap.get(`/${two.hash}.narinfo`)).status).toBe(200);
    expect(await snowcap.cache.removals.remove(two.hash, { force: true })).toMatchObject({ kind: 'removed' });
    expect(await snowcap.services.storage.head(two.url)).toBeNull();
  });

  it('leaves a body that another path has too', async () => {
    await start();
    const one = await fetched(snowcap, upstream, { name: 'one', seed: 1 });
    const same = await fetched(snowcap, upstream, { name: 'same', seed: 1 });
    await snowcap.settled();
    expect(same.url).toBe(one.url);
    await snowcap.cache.removals.remove(one.hash);
    expect(await snowcap.services.storage.head(one.url)).not.toBeNull();
    expect(await snowcap.services.storage.head(`${same.hash}.narinfo`)).not.toBeNull();
    expect(await snowcap.services.storage.head(`${one.hash}.narinfo`)).toBeNull();
  });
});

describe('a ban', () => {
  const ban = { reason: 'it is bad' };

  it('keeps a path away that an upstream has, its NAR by its old URL too, over a restart', async () => {
    await start();
    const path = await fetched(snowcap, upstream, { name: 'bad' });
    const opaque = await fetched(snowcap, upstream, {
      name: 'opaque',
      seed: 2,
      url: ({ hash }) => `nar/opaque-${hash}`,
    });
    const told = await (await snowcap.get(`/${opaque.hash}.narinfo`)).text();
    const [, derived = ''] = /^URL: (.*)$/m.exec(told) ?? [];
    expect(derived).toContain(opaque.hash);
    expect((await snowcap.get(`/${derived}`)).status).toBe(200);
    await snowcap.settled();
    expect(await snowcap.cache.removals.remove(opaque.hash, { ban })).toMatchObject({ kind: 'removed' });
    expect(await snowcap.cache.removals.remove(path.hash, { ban })).toMatchObject({ kind: 'removed' });
    const again = await startTestCache({ upstreams: [upstream.url], clock, sharing: snowcap });
    for (const { get } of [snowcap, again]) {
      expect((await get(`/${path.hash}.narinfo`)).status).toBe(404);
      expect((await get(`/${path.url}`)).status).toBe(404);
      expect((await get(`/${path.hash}.ls`)).status).toBe(404);
      expect((await get(`/${derived}`)).status).toBe(404);
    }
    await again.close();
    expect(await snowcap.services.storage.head(path.url)).toBeNull();
    const bans = [];
    for await (const { narKey: _, ...ban } of banMirrors(snowcap.services.storage)) bans.push(ban);
    expect(bans).toEqual(await snowcap.cache.removals.bans());
    expect(bans).toContainEqual({
      hash: path.hash,
      storePath: path.storePath,
      reason: 'it is bad',
      at: expect.any(Number) as number,
    });
  });

  it('may be of a path that was never asked for, and is lifted again', async () => {
    await start();
    const path = await signedPath({ name: 'bad' });
    publish(upstream, path);
    expect(await snowcap.cache.removals.remove(path.hash, { ban })).toEqual({ kind: 'unknown' });
    expect((await snowcap.get(`/${path.hash}.narinfo`)).status).toBe(404);
    expect(await snowcap.cache.removals.unban(path.hash)).toBe(true);
    expect(await snowcap.cache.removals.unban(path.hash)).toBe(false);
    expect((await snowcap.get(`/${path.hash}.narinfo`)).status).toBe(200);
    expect((await snowcap.get(`/${path.url}`)).status).toBe(200);
    for await (const _ of banMirrors(snowcap.services.storage)) throw new Error('a mirror is left');
  });

  it('is not undone by a fill that was under way', async () => {
    await start();
    const path = await signedPath({ name: 'bad', size: 500_000 });
    const goOn = Promise.withResolvers<void>();
    publish(upstream, path);
    upstream.route(`/${path.url}`, [{ body: path.body, stallAt: 100_000, until: goOn.promise }]);
    expect((await snowcap.get(`/${path.hash}.narinfo`)).status).toBe(200);
    const reading = snowcap.get(`/${path.url}`).then((answer) => answer.arrayBuffer());
    await new Promise((resolve) => setTimeout(resolve, 50));
    await snowcap.cache.removals.remove(path.hash, { ban });
    goOn.resolve();
    await reading.catch(() => undefined);
    await snowcap.settled();
    expect(await snowcap.services.storage.head(path.url)).toBeNull();
    expect(await snowcap.services.storage.head(`${path.hash}.narinfo`)).toBeNull();
    expect((await snowcap.get(`/${path.hash}.narinfo`)).status).toBe(404);
    expect((await snowcap.get(`/${path.url}`)).status).toBe(404);
    expect(await snowcap.services.metadata.totals()).toEqual({ presentBytes: 0, presentNars: 0 });
  });
});
