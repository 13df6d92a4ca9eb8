import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { CacheServices } from '../../src/cache/services.ts';
import type { BlobBody, BlobStore } from '../../src/storage/blob-store.ts';
import { collect, leave } from '../../src/stream/byte-stream.ts';
import { streamOfBody } from '../../src/cache/stored-bytes.ts';
import { before, beforeDeleting } from '../support/between.ts';
import { download } from '../support/download.ts';
import {
  disorderOf,
  fetchAgain,
  fetched,
  objectsOf,
  pushed,
  baseName,
  stateOf,
  statesOf,
} from '../support/evictable.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { shiftedClock, withMethods } from '../support/replaced.ts';
import { publish, type SignedPath, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache, type TestCacheOptions, until } from '../support/test-cache.ts';

const HOUR_MS = 60 * 60 * 1000;
const SIZE = 10_000;

let upstream: FaultServer;
let snowcap: TestCache;
let another: TestCache | null;
/** What comes between is about this one. */
let target: SignedPath | undefined;
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
  target = undefined;
});

afterEach(async () => {
  await another?.close();
  await snowcap.close();
  await upstream.close();
});

describe('an eviction loses against', () => {
  it('an access that was recorded after it looked', async () => {
    await start({
      replace: before('markEvicting', async () => {
        if (target === undefined) return;
        await snowcap.drivers.metadata.touch([{ key: target.url, at: clock.now() }]);
      }),
    });
    const paths = await two();
    target = paths[0];
    expect(await snowcap.cache.evict()).toMatchObject({
      outcome: 'kept',
      passedOver: { lost: { nars: 1 } },
      kept: { recent: paths[0].body.length },
    });
    expect(await statesOf(snowcap, paths)).toEqual(['present', 'absent']);
    expect(await disorderOf(snowcap)).toEqual([]);
  });

  it('a pin that came after it looked, and one that came after it marked', async () => {
    for (const step of ['markEvicting', 'spareEvicting'] as const) {
      await start({
        replace: before(step, async () => {
          if (target === undefined) return;
          const { hash, storePath } = target;
          const pin = { name: 'late', hash, storePath, createdAt: clock.now(), expiresAt: null };
          await snowcap.drivers.upkeep.putPin(pin);
        }),
      });
      const paths = await two();
      target = paths[1];
      expect(await snowcap.cache.evict()).toMatchObject({
        outcome: 'kept',
        passedOver: { lost: { nars: 1 } },
      });
      expect(await statesOf(snowcap, paths)).toEqual(['absent', 'present']);
      expect(await disorderOf(snowcap)).toEqual([]);
      if (step === 'markEvicting') await snowcap.close();
    }
  });

  it('a push of a path that refers to what it has marked', async () => {
    await start({
      settings: { maxSize: SIZE },
      replace: before('spareEvicting', async () => {
        if (target === undefined) return;
        await pushed(snowcap, { name: 'above', seed: 3, size: 100, references: [baseName(target)] });
      }),
    });
    const below = await pushed(snowcap, { name: 'below', size: SIZE });
    target = below;
    clock.advance(HOUR_MS);
    expect(await snowcap.cache.evict()).toMatchObject({ outcome: 'kept' });
    expect(await stateOf(snowcap, below)).toBe('present');
    expect(await snowcap.services.upkeep.listDangling(0, 10)).toEqual([]);
    expect(await disorderOf(snowcap)).toEqual([]);
  });
});

describe('an eviction and a push of the same NAR', () => {
  it.each(['narinfo', 'nar'] as const)('that is over before its %s is deleted: it stays', async (what) => {
    const paths: SignedPath[] = [];
    const again = async (): Promise<unknown> =>
      paths.length > 0 && (await pushed(snowcap, { name: 'own', seed: 3, size: SIZE }));
    await start({
      settings: { maxSize: SIZE },
      replace: what === 'narinfo' ? before('spareEvicting', again) : beforeDeleting('narinfo', again),
    });
    paths.push(await pushed(snowcap, { name: 'own', seed: 3, size: SIZE }));
    clock.advance(HOUR_MS);
    expect(await snowcap.cache.evict()).toMatchObject({ passedOver: { lost: { nars: 1 } } });
    expect(await statesOf(snowcap, paths)).toEqual(['present']);
    for (const path of paths) await fetchAgain(snowcap, path);
    expect((await objectsOf(snowcap)).narInfos).toEqual(paths.map(({ hash }) => hash));
    expect(await disorderOf(snowcap)).toEqual([]);
  });
});

describe('an eviction and a fill of the same NAR', () => {
  /** Another instance, which does not see at first what is stored, and so fills it and meets the old body. */
  async function blindInstance(
    also: (services: CacheServices) => Partial<CacheServices> = () => ({}),
  ): Promise<TestCache> {
    let looks = 0;
    const blind = (storage: BlobStore): BlobStore =>
      withMethods(storage, {
        get: async (key, options) => (key.startsWith('nar/') ? null : await storage.get(key, options)),
        head: async (key) => (key.startsWith('nar/') && looks++ === 0 ? null : await storage.head(key)),
      });
    another = await startTestCache({
      upstreams: [upstream.url],
      clock,
      sharing: snowcap,
      platform: { schedule: () => Promise.resolve() },
      replace: (services) => ({ storage: blind(services.storage), ...also(services) }),
    });
    return another;
  }

  it('that met the old body and was recorded before the eviction was over: the row tells that it is gone', async () => {
    await start({
      replace: beforeDeleting('nar', async () => {
        if (target !== undefined)
          expect(await another?.cache.run({ kind: 'fill', key: target.url })).toEqual({ kind: 'done' });
      }),
    });
    const [path] = await two();
    target = path;
    await blindInstance();
    const report = await snowcap.cache.evict();
    expect(report.passedOver.lost.nars).toBe(1);
    expect(await stateOf(snowcap, path)).toBe('absent');
    expect(await disorderOf(snowcap)).toEqual([]);
    await fetchAgain(snowcap, path);
  });

  it('that met the old body and was recorded afterwards: the fill takes it back', async () => {
    const over = Promise.withResolvers<void>();
    const met = Promise.withResolvers<void>();
    let filling: Promise<unknown> = Promise.resolve();
    await start({
      replace: beforeDeleting('nar', async () => {
        if (target === undefined) return;
        filling = another?.cache.run({ kind: 'fill', key: target.url }) ?? filling;
        await met.promise;
      }),
    });
    const [path] = await two();
    target = path;
    await blindInstance(({ metadata }) => ({
      metadata: withMethods(metadata, {
        markPresent: async (...given) => {
          met.resolve();
          await over.promise;
          return await metadata.markPresent(...given);
        },
      }),
    }));
    await snowcap.cache.evict();
    over.resolve();
    expect(await filling).toMatchObject({ kind: 'later', reason: /evicted while it was stored/ });
    expect(await stateOf(snowcap, path)).toBe('absent');
    expect(await disorderOf(snowcap)).toEqual([]);
    await fetchAgain(snowcap, path);
  });

  it('that comes when the body has gone and its row has not: it writes last, and counts', async () => {
    await start({
      replace: before('finishEvicting', async () => {
        if (target === undefined) return;
        another = await startTestCache({ upstreams: [upstream.url], clock, sharing: snowcap });
        await fetchAgain(another, target);
        await another.settled();
      }),
    });
    const [path] = await two();
    target = path;
    await snowcap.cache.evict();
    expect(await stateOf(snowcap, path)).toBe('present');
    expect(await disorderOf(snowcap)).toEqual([]);
  });

  it('that is under way in this process: it is left alone', async () => {
    await start({ storage: 'file', settings: { maxSize: 2_500_000 } });
    await pushed(snowcap, { name: 'filler', seed: 6, size: 1_000_000 });
    const path = await signedPath({ name: 'slow', seed: 5, size: 2_000_000 });
    publish(upstream, path, { bytesPerSecond: 4_000_000 });
    await snowcap.get(`/${path.hash}.narinfo`);
    const filled = download(`${snowcap.url}/${path.url}`);
    await until(() => snowcap.metric('snowcap_fills_in_flight') === 1);
    // As if another instance had stored it: it counts, and it is old.
    await snowcap.drivers.storage.put(path.url, { kind: 'bytes', bytes: path.body });
    const stored = {
      fileHash: path.fileHash,
      fileSize: path.body.length,
      verification: 'nar',
      at: 1,
    } as const;
    await snowcap.services.metadata.markPresent(path.url, stored);
    expect(await snowcap.cache.evict()).toMatchObject({ passedOver: { in_use: { nars: 1 } } });
    expect((await filled).bytes.equals(path.body)).toBe(true);
    await snowcap.settled();
    expect(await disorderOf(snowcap)).toEqual([]);
  });
});

describe('a reader in flight', () => {
  /** A body that a client reads slowly, while there is too much. */
  async function beingRead(
    reading: () => TestCache,
  ): Promise<{ readonly path: SignedPath; readonly body: BlobBody }> {
    const path = await fetched(snowcap, upstream, { size: 1_000_000, name: 'large', seed: 7 });
    await pushed(snowcap, { name: 'filler', seed: 6, size: 300_000 });
    await snowcap.settled();
    const answer = await reading().cache.getNar({ key: path.url, query: '' });
    if (answer.kind !== 'body') throw new Error(`The answer is ${answer.kind}`);
    await reading().cache.flush();
    // Its access is told, and long ago.
    clock.advance(HOUR_MS);
    return { path, body: answer.body };
  }

  it.each(['file', 'memory'] as const)(
    'in this process keeps its body until it has it or leaves (%s)',
    async (storage) => {
      await start({ storage, settings: { maxSize: 1_200_000 } });
      const { path, body } = await beingRead(() => snowcap);
      expect(await snowcap.cache.evict()).toMatchObject({
        outcome: 'kept',
        kept: { inUse: path.body.length, recent: 0, pushed: 0 },
        passedOver: { in_use: { nars: 1 } },
      });
      const bytes = await collect(streamOfBody(body), path.body.length);
      expect(Buffer.from(bytes).equals(path.body)).toBe(true);
      const left = await snowcap.cache.getNar({ key: path.url, query: '' });
      if (left.kind === 'body') await leave(streamOfBody(left.body));
      await pushed(snowcap, { name: 'filler', seed: 6, size: 300_000 });
      clock.advance(HOUR_MS);
      expect(await snowcap.cache.evict()).toMatchObject({ outcome: 'reached', after: { presentNars: 0 } });
    },
  );

  it('in another instance has its body to the end, where the store has opened it', async () => {
    await start({ storage: 'file', settings: { maxSize: 1_200_000 } });
    const reading = await startTestCache({ upstreams: [upstream.url], clock, sharing: snowcap });
    another = reading;
    const { path, body } = await beingRead(() => reading);
    expect(await snowcap.cache.evict()).toMatchObject({ outcome: 'reached', after: { presentNars: 0 } });
    const bytes = await collect(streamOfBody(body), path.body.length);
    expect(Buffer.from(bytes).equals(path.body)).toBe(true);
    expect(await disorderOf(snowcap)).toEqual([]);
  });
});
