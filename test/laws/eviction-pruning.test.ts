import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fetched, pushed, statesOf } from '../support/evictable.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { shiftedClock } from '../support/replaced.ts';
import { publish, type SignedPath, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache, type TestCacheOptions } from '../support/test-cache.ts';

const DAY_MS = 24 * 60 * 60 * 1000;

let upstream: FaultServer;
let snowcap: TestCache;
let clock: ReturnType<typeof shiftedClock>;

async function start(settings: TestCacheOptions['settings']): Promise<void> {
  snowcap = await startTestCache({
    upstreams: [upstream.url],
    clock,
    platform: { schedule: () => Promise.resolve() },
    ...(settings === undefined ? {} : { settings }),
  });
}

/** Paths of which only the narinfo was asked for. */
async function known(count: number, name: string): Promise<readonly SignedPath[]> {
  const paths: SignedPath[] = [];
  for (let nth = 0; nth < count; nth += 1) {
    const path = await signedPath({ name: `${name}-${nth}`, seed: nth + 1 });
    publish(upstream, path);
    expect((await snowcap.get(`/${path.hash}.narinfo`)).status).toBe(200);
    paths.push(path);
  }
  return paths;
}

async function isKnown({ hash }: SignedPath): Promise<boolean> {
  return (await snowcap.services.metadata.getPath(hash)) !== null;
}

beforeEach(async () => {
  upstream = await startFaultServer();
  clock = shiftedClock();
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

describe('what is remembered of paths without a body', () => {
  it('is forgotten after the time that the settings say, once a day; bodies and what is pinned stay', async () => {
    await start({ metadataRetentionMs: 100 * DAY_MS });
    const [lost, pinned] = await known(2, 'old');
    if (lost === undefined || pinned === undefined) return;
    const stored = await fetched(snowcap, upstream, { name: 'stored', seed: 20 });
    const own = await pushed(snowcap, { name: 'own', seed: 21 });
    const { hash, storePath } = pinned;
    const { upkeep } = snowcap.services;
    await upkeep.putPin({ name: 'kept', hash, storePath, createdAt: clock.now(), expiresAt: null });
    clock.advance(99 * DAY_MS);
    expect((await snowcap.cache.evict()).prunedPaths).toBe(0);
    const [young] = await known(1, 'young');
    if (young === undefined) return;
    clock.advance(DAY_MS / 2);
    // Once a day, whatever is there.
    const { operations } = snowcap;
    const before = operations['upkeep.prunePaths'];
    await snowcap.cache.evict();
    expect(operations['upkeep.prunePaths']).toBe(before);
    clock.advance(2 * DAY_MS);
    expect((await snowcap.cache.evict()).prunedPaths).toBe(1);
    expect(await Promise.all([lost, pinned, young, stored, own].map(isKnown))).toEqual([
      false,
      true,
      true,
      true,
      true,
    ]);
    expect(await statesOf(snowcap, [stored, own])).toEqual(['present', 'present']);
    // It is asked for as for the first time.
    expect((await snowcap.get(`/${lost.hash}.narinfo`)).status).toBe(200);
  });

  it('is bounded in number, the longest unused first, but never by what clients remember', async () => {
    await start({ metadataMaxPaths: 2 });
    const oldest = await known(2, 'oldest');
    clock.advance(200 * DAY_MS);
    const older = await known(2, 'older');
    clock.advance(180 * DAY_MS);
    expect((await snowcap.cache.evict()).prunedPaths).toBe(2);
    expect(await Promise.all([...oldest, ...older].map(isKnown))).toEqual([false, false, true, true]);
    const young = await known(2, 'young');
    clock.advance(29 * DAY_MS);
    expect((await snowcap.cache.evict()).prunedPaths).toBe(2);
    expect(await Promise.all([...older, ...young].map(isKnown))).toEqual([false, false, true, true]);
    await known(2, 'younger');
    clock.advance(1.5 * DAY_MS);
    expect((await snowcap.cache.evict()).prunedPaths).toBe(2);
    expect(await Promise.all(young.map(isKnown))).toEqual([false, false]);
    await known(2, 'newest');
    clock.advance(2 * DAY_MS);
    // They are too many, and all of them younger than 30 days.
    expect((await snowcap.cache.evict()).prunedPaths).toBe(0);
    expect(await snowcap.services.upkeep.countPaths()).toBe(4);
  });

  it('goes on where it was ended', async () => {
    await start({ metadataRetentionMs: DAY_MS });
    const { upkeep } = snowcap.services;
    const paths = await known(3, 'old');
    clock.advance(3 * DAY_MS);
    await upkeep.setMark('pruning', `${DAY_MS} 2`);
    expect((await snowcap.cache.evict()).prunedPaths).toBe(1);
    expect(await Promise.all(paths.map(isKnown))).toEqual([true, true, false]);
    expect(await upkeep.getMark('pruning')).toBeNull();
    expect(Number(await upkeep.getMark('pruned-at'))).toBeGreaterThan(0);
    clock.advance(2 * DAY_MS);
    expect((await snowcap.cache.evict()).prunedPaths).toBe(2);
  });

  it('goes on with what is left of forgotten paths, where only that was not done', async () => {
    await start({ metadataRetentionMs: DAY_MS });
    const { upkeep } = snowcap.services;
    const [gone, old] = await known(2, 'old');
    if (gone === undefined || old === undefined) return;
    await upkeep.removePath(gone.hash);
    clock.advance(3 * DAY_MS);
    await upkeep.setMark('pruning', `${DAY_MS} 0 nodes`);
    expect((await snowcap.cache.evict()).prunedPaths).toBe(0);
    expect((await upkeep.listNars(0, 10)).map(({ key }) => key)).toEqual([gone.url, old.url]);
    clock.advance(2 * DAY_MS);
    await upkeep.setMark('pruning', `${DAY_MS} 0 nars`);
    expect((await snowcap.cache.evict()).prunedPaths).toBe(0);
    expect((await upkeep.listNars(0, 10)).map(({ key }) => key)).toEqual([old.url]);
    expect(await isKnown(old)).toBe(true);
  });

  it('is not touched where the time is over, nor while the index is rebuilt', async () => {
    await start({ metadataRetentionMs: DAY_MS });
    await known(1, 'old');
    clock.advance(3 * DAY_MS);
    expect((await snowcap.cache.evict({ budgetMs: 0 })).prunedPaths).toBe(0);
    await snowcap.services.upkeep.setMark('rebuilding', '1');
    expect((await snowcap.cache.evict()).prunedPaths).toBe(0);
    await snowcap.services.upkeep.setMark('rebuilding', null);
    expect((await snowcap.cache.evict({ dryRun: true })).prunedPaths).toBe(0);
    expect((await snowcap.cache.evict()).prunedPaths).toBe(1);
  });
});
