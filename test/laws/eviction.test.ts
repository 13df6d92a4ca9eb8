import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fetchAgain, fetched, objectsOf, pushed, statesOf, baseName } from '../support/evictable.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { shiftedClock } from '../support/replaced.ts';
import type { SignedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache, type TestCacheOptions } from '../support/test-cache.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const HOUR_MS = 60 * 60 * 1000;
/** Bytes of a body, whose NAR has some bytes more. */
const SIZE = 10_000;

let upstream: FaultServer;
let snowcap: TestCache;
let clock: ReturnType<typeof shiftedClock>;

/** Room for about `bodies` of them. Evictions that nobody asks for are handed over, and not done. */
async function start(bodies: number, options: TestCacheOptions = {}): Promise<void> {
  const settings = { maxSize: bodies * (SIZE + 200), lowWater: 0.5, ...options.settings };
  const platform = { schedule: () => Promise.resolve() };
  snowcap = await startTestCache({ upstreams: [upstream.url], clock, platform, ...options, settings });
}

/** Paths that were fetched an hour apart, the oldest first. */
async function many(count: number, name = 'many'): Promise<readonly SignedPath[]> {
  const paths: SignedPath[] = [];
  for (let nth = 0; nth < count; nth += 1) {
    paths.push(await fetched(snowcap, upstream, { name: `${name}-${nth}`, seed: nth + 100, size: SIZE }));
    await snowcap.settled();
    clock.advance(HOUR_MS);
  }
  return paths;
}

beforeEach(async () => {
  upstream = await startFaultServer();
  clock = shiftedClock();
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

describe('an eviction', () => {
  it('does nothing to what is within the limit', async () => {
    await start(4);
    const paths = await many(3);
    expect(await snowcap.cache.evict()).toMatchObject({
      outcome: 'within_limit',
      freed: { obtainable: { nars: 0 } },
    });
    expect(await statesOf(snowcap, paths)).toEqual(['present', 'present', 'present']);
  });

  it('goes from above the limit to the low-water mark, the oldest first, with narinfos and listings', async () => {
    await start(4);
    const paths = await many(5);
    const first = paths[0];
    if (first === undefined) return;
    await snowcap.services.storage.put(`${first.hash}.ls`, { kind: 'bytes', bytes: first.nar });
    const report = await snowcap.cache.evict();
    expect(report).toMatchObject({ outcome: 'reached', kept: null, dryRun: false });
    expect(report.after.presentBytes).toBeLessThanOrEqual(report.target);
    expect(report.before.presentNars - report.after.presentNars).toBe(3);
    expect(report.freed.obtainable.nars).toBe(3);
    expect(report.freed.obtainable.bytes).toBe(report.before.presentBytes - report.after.presentBytes);
    const stored = await objectsOf(snowcap);
    const staying = paths.slice(3);
    expect(stored.nars).toEqual(staying.map(({ url }) => url).sort());
    expect(stored.narInfos).toEqual(staying.map(({ hash }) => hash).sort());
    expect(await snowcap.services.storage.head(`${first.hash}.ls`)).toBeNull();
    expect(snowcap.metric('snowcap_evicted_nars_total', { kind: 'obtainable' })).toBe(3);
    expect(snowcap.metric('snowcap_evicted_bytes_total', { kind: 'obtainable' })).toBe(
      report.freed.obtainable.bytes,
    );
    expect(snowcap.metric('snowcap_eviction_runs_total', { outcome: 'reached' })).toBe(1);
    expect(snowcap.logs.filter(({ message }) => message === 'eviction')).toHaveLength(1);
    // What has gone comes again.
    for (const path of paths) await fetchAgain(snowcap, path);
  });

  it('evicts more bodies than fit on a page', async () => {
    await start(1, { settings: { maxSize: 60_000 } });
    const small: SignedPath[] = [];
    for (let nth = 0; nth < 420; nth += 1) {
      small.push(await pushed(snowcap, { name: `small-${nth}`, seed: nth + 1, size: 200 }));
    }
    for (const { url } of small) await snowcap.services.upkeep.markObtainable(url, null);
    clock.advance(HOUR_MS);
    const report = await snowcap.cache.evict();
    expect(report.outcome).toBe('reached');
    expect(report.freed.obtainable.nars).toBeGreaterThan(200);
    expect((await objectsOf(snowcap)).nars).toHaveLength(report.after.presentNars);
    expect((await objectsOf(snowcap)).narInfos).toHaveLength(report.after.presentNars);
  });

  it('tells in a dry run what would go and why, and changes nothing', async () => {
    await start(3);
    const paths = await many(4);
    const oldest = paths[0];
    if (oldest === undefined) return;
    await pin(oldest);
    const seen: unknown[] = [];
    const report = await snowcap.cache.evict({
      dryRun: true,
      onCandidate: (candidate) => seen.push([candidate.key, candidate.verdict]),
    });
    expect(report).toMatchObject({ outcome: 'reached', dryRun: true, freed: { obtainable: { nars: 3 } } });
    expect(seen).toEqual(paths.map(({ url }, nth) => [url, nth === 0 ? 'pinned' : 'goes']));
    expect(report.after.presentNars).toBe(1);
    expect((await snowcap.services.metadata.totals()).presentNars).toBe(4);
    expect(await statesOf(snowcap, paths)).toEqual(paths.map(() => 'present'));
    expect(snowcap.metric('snowcap_eviction_runs_total')).toBe(0);
  });

  it('stops when its time is over, and goes on the next time', async () => {
    await start(3);
    await many(4);
    expect(await snowcap.cache.evict({ budgetMs: 0 })).toMatchObject({
      outcome: 'out_of_time',
      freed: { obtainable: { nars: 0 } },
    });
    expect(await snowcap.cache.evict({ signal: AbortSignal.abort() })).toMatchObject({
      outcome: 'out_of_time',
    });
    expect(await snowcap.cache.evict()).toMatchObject({ outcome: 'reached' });
  });

  it('does nothing while the index is rebuilt', async () => {
    await start(3);
    await many(4);
    await snowcap.services.upkeep.setMark('rebuilding', '1');
    expect(await snowcap.cache.evict()).toMatchObject({ outcome: 'rebuilding', expiredPins: [] });
    expect((await snowcap.services.metadata.totals()).presentNars).toBe(4);
    await snowcap.services.upkeep.setMark('rebuilding', null);
    expect(await snowcap.cache.evict()).toMatchObject({ outcome: 'reached' });
  });
});

describe('what stays', () => {
  it('is what is pinned, with the figures where pins exceed the budget', async () => {
    await start(3);
    const paths = await many(4);
    for (const path of paths.slice(0, 3)) await pin(path);
    const report = await snowcap.cache.evict();
    expect(report.outcome).toBe('kept');
    expect(report.passedOver.pinned.nars).toBe(3);
    expect(report.kept).toEqual({
      pinned: report.after.presentBytes,
      inUse: 0,
      recent: 0,
      pushed: 0,
    });
    expect(await statesOf(snowcap, paths)).toEqual(['present', 'present', 'present', 'absent']);
  });

  it('is what was stored in the last minutes, which is told', async () => {
    await start(2);
    const [old, ...young] = await Promise.all(
      [1, 2, 3].map((nth) => fetched(snowcap, upstream, { name: `young-${nth}`, seed: nth, size: SIZE })),
    );
    await snowcap.settled();
    expect(await snowcap.cache.evict()).toMatchObject({
      outcome: 'kept',
      kept: { recent: (await snowcap.services.metadata.totals()).presentBytes, pinned: 0, pushed: 0 },
    });
    expect(snowcap.logs.filter(({ message }) => message === 'eviction')).toMatchObject([{ level: 'warn' }]);
    clock.advance(10 * 60_000 + 1000);
    expect(await snowcap.cache.evict()).toMatchObject({ outcome: 'reached' });
    expect([old, ...young]).toHaveLength(3);
  });

  it('is what was used lately, also where nobody has told the index yet', async () => {
    await start(3);
    const paths = await many(4);
    const oldest = paths[0];
    if (oldest === undefined) return;
    // A hit from storage: the access waits for its batch.
    await fetchAgain(snowcap, oldest);
    const report = await snowcap.cache.evict();
    expect(report).toMatchObject({ outcome: 'reached', freed: { obtainable: { nars: 3 } } });
    expect(await statesOf(snowcap, paths)).toEqual(['present', 'absent', 'absent', 'absent']);
  });
});

describe('a pushed path', () => {
  it('stays for ever by default, whatever the limit is', async () => {
    await start(1);
    const paths = [
      await pushed(snowcap, { name: 'a', size: SIZE }),
      await pushed(snowcap, { name: 'b', size: SIZE, seed: 2 }),
    ];
    clock.advance(1000 * DAY_MS);
    const report = await snowcap.cache.evict();
    expect(report).toMatchObject({ outcome: 'kept', kept: { pushed: report.after.presentBytes, recent: 0 } });
    expect(await statesOf(snowcap, paths)).toEqual(['present', 'present']);
  });

  it('goes after what an upstream can give again, where it was not used for as long as the settings say', async () => {
    await start(2, { settings: { evictPushedAfterMs: 30 * DAY_MS } });
    const old = await pushed(snowcap, { name: 'old', size: SIZE });
    clock.advance(20 * DAY_MS);
    const young = await pushed(snowcap, { name: 'young', size: SIZE, seed: 2 });
    clock.advance(15 * DAY_MS);
    const [given] = await many(1);
    if (given === undefined) return;
    const report = await snowcap.cache.evict();
    expect(report).toMatchObject({
      outcome: 'reached',
      freed: { obtainable: { nars: 1 }, pushed: { nars: 1 } },
    });
    expect(await statesOf(snowcap, [old, young, given])).toEqual(['absent', 'present', 'absent']);
  });

  it('goes at once where the settings say always, and not in its first minutes', async () => {
    await start(1, { settings: { evictPushedAfterMs: 0 } });
    await pushed(snowcap, { name: 'a', size: SIZE });
    await pushed(snowcap, { name: 'b', size: SIZE, seed: 2 });
    expect(await snowcap.cache.evict()).toMatchObject({ outcome: 'kept' });
    clock.advance(11 * 60_000);
    expect(await snowcap.cache.evict()).toMatchObject({ outcome: 'reached', freed: { pushed: { nars: 2 } } });
  });

  it('never goes before those that refer to it, however seldom it is used', async () => {
    await start(2, { settings: { evictPushedAfterMs: 0 } });
    // The deeper, the older: the order of their accesses is the wrong one for all of them.
    const chain: SignedPath[] = [];
    for (let depth = 0; depth < 4; depth += 1) {
      const below = chain.at(-1);
      const references = below === undefined ? [] : [baseName(below)];
      chain.push(await pushed(snowcap, { name: `depth-${depth}`, size: SIZE, seed: depth + 1, references }));
      clock.advance(HOUR_MS);
    }
    const report = await snowcap.cache.evict();
    expect(report).toMatchObject({ outcome: 'reached', freed: { pushed: { nars: 3 } } });
    expect(await statesOf(snowcap, chain)).toEqual(['present', 'absent', 'absent', 'absent']);
    expect(await snowcap.services.upkeep.listDangling(0, 10)).toEqual([]);
  });

  it('goes with those that referred to it, before anything that was used later', async () => {
    // Two closures, a day apart, that do not fit on one page together: the half of all that is to go is the older one.
    const members = 120;
    const maxSize = 2 * members * 312 - 1;
    await start(1, { settings: { evictPushedAfterMs: 0, maxSize, lowWater: 0.51 } });
    const closures: (readonly SignedPath[])[] = [];
    for (const name of ['older', 'younger']) {
      const closure: SignedPath[] = [];
      for (let nth = 0; nth < members; nth += 1) {
        const references =
          nth === members - 1
            ? closure.map(baseName)
            : closure
                .slice(-1)
                .map(baseName)
                .slice(nth % 2);
        const seed = closures.length * 1000 + nth + 1;
        closure.push(await pushed(snowcap, { name: `${name}-${nth}`, size: 200, seed, references }));
      }
      closures.push(closure);
      clock.advance(DAY_MS);
    }
    const report = await snowcap.cache.evict();
    expect(report).toMatchObject({
      outcome: 'reached',
      passedOver: { lost: { nars: 0 } },
    });
    expect(report.freed.pushed.nars).toBeGreaterThan(members * 0.9);
    const states = await Promise.all(closures.map((closure) => statesOf(snowcap, closure)));
    expect(new Set(states[1])).toEqual(new Set(['present']));
    expect(await snowcap.services.upkeep.listDangling(0, 10)).toEqual([]);
  });

  it('stays while one that refers to it is pinned', async () => {
    await start(1, { settings: { evictPushedAfterMs: 0 } });
    const below = await pushed(snowcap, { name: 'below', size: SIZE });
    const above = await pushed(snowcap, {
      name: 'above',
      size: SIZE,
      seed: 2,
      references: [baseName(below)],
    });
    await pin(above);
    clock.advance(HOUR_MS);
    expect(await snowcap.cache.evict()).toMatchObject({
      outcome: 'kept',
      passedOver: { pinned: { nars: 2 } },
    });
    expect(await statesOf(snowcap, [below, above])).toEqual(['present', 'present']);
  });
});

describe('a pin that has expired', () => {
  it('goes at the next eviction, with its mirror in the bucket, and keeps nothing', async () => {
    await start(2);
    const paths = await many(3);
    const { storage, upkeep } = snowcap.services;
    for (const [nth, path] of paths.entries()) {
      await pin(path, nth === 0 ? null : clock.now() + DAY_MS);
      await storage.put(`snowcap/pins/${path.hash}`, { kind: 'bytes', bytes: new Uint8Array(2) });
    }
    clock.advance(2 * DAY_MS);
    const report = await snowcap.cache.evict();
    expect(report.expiredPins).toHaveLength(2);
    expect(report).toMatchObject({ outcome: 'reached', freed: { obtainable: { nars: 2 } } });
    expect((await upkeep.listPins()).map(({ hash }) => hash)).toEqual([paths[0]?.hash]);
    const mirrors = await Promise.all(paths.map(({ hash }) => storage.head(`snowcap/pins/${hash}`)));
    expect(mirrors.map((mirror) => mirror !== null)).toEqual([true, false, false]);
  });
});

/** @param expiresAt milliseconds since the epoch */
async function pin({ hash, storePath }: SignedPath, expiresAt: number | null = null): Promise<void> {
  await snowcap.services.upkeep.putPin({ name: hash, storePath, hash, createdAt: clock.now(), expiresAt });
}
