import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Lease, LockManager } from '../../src/lock/lock-manager.ts';
import { download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { servedKey, shiftedClock, withMethods } from '../support/replaced.ts';
import { publish, type SignedPath, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache, type TestCacheOptions, until } from '../support/test-cache.ts';

const never = <T>(): Promise<T> => new Promise<T>(() => undefined);

let upstream: FaultServer;
const running: TestCache[] = [];

async function start(options: TestCacheOptions = {}): Promise<TestCache> {
  const snowcap = await startTestCache({ upstreams: [upstream.url], ...options });
  running.push(snowcap);
  return snowcap;
}

/** Instances over one storage, one index and one lock service. */
async function instances(count: number, options: TestCacheOptions = {}): Promise<readonly TestCache[]> {
  const patient = { storage: 'file' as const, upstreamSettings: { idleTimeoutMs: 10_000 }, ...options };
  const first = await start(patient);
  const others = await Promise.all(
    Array.from({ length: count - 1 }, () => start({ ...patient, sharing: first })),
  );
  return [first, ...others];
}

async function known(all: readonly TestCache[], path: SignedPath): Promise<string> {
  const keys = await Promise.all(all.map((snowcap) => servedKey(snowcap, path)));
  expect(new Set(keys).size).toBe(1);
  return keys[0] ?? '';
}

function bodiesOf(path: SignedPath): number {
  return upstream.requestsTo(`/${path.url}`, 'GET').length;
}

async function expectWhole(all: readonly TestCache[], key: string, path: SignedPath): Promise<void> {
  for (const one of await Promise.all(all.map(({ url }) => download(`${url}/${key}`)))) {
    expect(one).toMatchObject({ status: 200, ended: 'clean' });
    expect(one.bytes.equals(path.body)).toBe(true);
  }
}

beforeEach(async () => {
  upstream = await startFaultServer();
});

afterEach(async () => {
  for (const snowcap of running.splice(0).toReversed()) await snowcap.close();
  await upstream.close();
});

describe('law 4: of several instances that are asked for one cold NAR', () => {
  it.each(['disk', 'none'] as const)('one downloads, with spool: %s', async (spool) => {
    const all = await instances(6, { spool });
    const path = await signedPath({ size: 2_000_000 });
    publish(upstream, path, { bytesPerSecond: 4_000_000 });
    const key = await known(all, path);
    await expectWhole(all, key, path);
    expect(bodiesOf(path)).toBe(1);
    for (const snowcap of all) {
      await snowcap.settled();
      expect(snowcap.operations['storage.head']).toBeLessThanOrEqual(12);
      expect(snowcap.operations['locks.acquire']).toBeLessThanOrEqual(2);
    }
    expect(all.reduce((sum, { operations }) => sum + (operations['storage.put'] ?? 0), 0)).toBe(2);
  });

  it('those who wait see the body by looking, where the lock tells them nothing, and not in a queue', async () => {
    // As a lock service whose waiters are told late, or one after the other.
    const mute = (locks: LockManager): LockManager =>
      withMethods(locks, {
        acquire: (name, options) =>
          options.waitMs === 0 ? locks.acquire(name, options) : sleepUntilAborted(options.signal),
      });
    const all = await instances(6, { replace: ({ locks }) => ({ locks: mute(locks) }) });
    const path = await signedPath({ size: 1_500_000 });
    publish(upstream, path, { bytesPerSecond: 3_000_000 });
    const key = await known(all, path);
    const begun = performance.now();
    await expectWhole(all, key, path);
    expect(performance.now() - begun).toBeLessThan(3_000);
    expect(bodiesOf(path)).toBe(1);
    for (const { operations } of all) expect(operations['storage.head']).toBeLessThanOrEqual(11);
  });

  it('those who waited to the bound read the upstream, unsaved, and nobody waits again for what is stored', async () => {
    const all = await instances(3, { settings: { fillWaitMs: 300 } });
    const path = await signedPath({ size: 1_500_000 });
    const go = Promise.withResolvers<void>();
    publish(upstream, path, [{ stallAt: 700_000, until: go.promise }, {}]);
    const key = await known(all, path);
    const [first, ...others] = all;
    const leader = download(`${first?.url}/${key}`);
    await until(() => bodiesOf(path) === 1);
    const begun = performance.now();
    await expectWhole(others, key, path);
    expect(performance.now() - begun).toBeGreaterThanOrEqual(250);
    expect(bodiesOf(path)).toBe(3);
    for (const { operations } of others) {
      expect(operations['storage.put'] ?? 0).toBe(0);
      expect(operations['storage.head']).toBeLessThanOrEqual(12);
    }
    go.resolve();
    expect((await leader).ended).toBe('clean');
    await first?.settled();
    await expectWhole(all, key, path);
    expect(bodiesOf(path)).toBe(3);
  });

  it('nobody waits for a body that cannot arrive within the bound', async () => {
    const all = await instances(2, { settings: { fillWaitMs: 20 } });
    const path = await signedPath({ size: 1_500_000 });
    const go = Promise.withResolvers<void>();
    publish(upstream, path, [{ stallAt: 700_000, until: go.promise }, {}]);
    const key = await known(all, path);
    const [first, ...others] = all;
    const leader = download(`${first?.url}/${key}`);
    await until(() => bodiesOf(path) === 1);
    await expectWhole(others, key, path);
    // One look, with the lock; none that waits.
    expect(others[0]?.operations['storage.head']).toBe(1);
    expect(others[0]?.operations['locks.acquire']).toBe(1);
    go.resolve();
    expect((await leader).ended).toBe('clean');
  });

  it('the next takes over where the one that fills is dropped in the middle', async () => {
    const all = await instances(3);
    const path = await signedPath({ size: 1_500_000 });
    publish(upstream, path, [{ stallAt: 700_000, until: never() }, {}]);
    const key = await known(all, path);
    const [first, ...others] = all;
    let received = 0;
    const leader = download(`${first?.url}/${key}`, { onProgress: (bytes) => (received = bytes) });
    await until(() => received > 0);
    const waiting = expectWhole(others, key, path);
    await first?.cache.drain(AbortSignal.abort());
    expect((await leader).ended).toBe('broken');
    await waiting;
    expect(bodiesOf(path)).toBe(2);
    await Promise.all(others.map((one) => one.settled()));
    expect((await first?.drivers.storage.head(key))?.size).toBe(path.body.length);
  });

  it('each goes on by itself where the lock service dies in the middle', async () => {
    let dead = false;
    const mortal = (locks: LockManager): LockManager =>
      withMethods(locks, {
        async acquire(name, options) {
          if (dead) throw new Error('connection refused');
          const lease = await locks.acquire(name, options);
          return lease === null ? null : { ...lease, release: () => (dead ? never() : lease.release()) };
        },
      });
    const all = await instances(3, {
      replace: ({ locks }) => ({ locks: mortal(locks) }),
      settings: { fillWaitMs: 500 },
    });
    const path = await signedPath({ size: 1_500_000 });
    const go = Promise.withResolvers<void>();
    publish(upstream, path, [{ stallAt: 700_000, until: go.promise }, {}]);
    const key = await known(all, path);
    const asked = expectWhole(all, key, path);
    await until(() => bodiesOf(path) === 1);
    dead = true;
    setTimeout(go.resolve, 200);
    await asked;
    await Promise.all(all.map((one) => one.settled()));
    expect((await all[0]?.drivers.storage.head(key))?.size).toBe(path.body.length);
    await expectWhole(all, key, path);
  });
});

describe('law 4: a lock service at fault', () => {
  it.each([
    ['hangs', never<Lease | null>],
    ['answers late', () => new Promise<Lease | null>((resolve) => setTimeout(() => resolve(null), 3_000))],
  ])('that %s delays a fill by a second at most', async (_, acquire) => {
    const snowcap = await start({ replace: ({ locks }) => ({ locks: withMethods(locks, { acquire }) }) });
    const path = await signedPath();
    publish(upstream, path);
    const key = await known([snowcap], path);
    const begun = performance.now();
    await expectWhole([snowcap], key, path);
    expect(performance.now() - begun).toBeLessThan(2_000);
    await snowcap.settled();
    expect(snowcap.metric('snowcap_lock_faults_total', { operation: 'acquire' })).toBe(1);
    expect((await snowcap.services.storage.head(key))?.size).toBe(path.body.length);
  });

  it('gives back a lock that comes too late', async () => {
    let released = 0;
    const acquire: LockManager['acquire'] = (name) =>
      new Promise((resolve) => {
        const lease: Lease = {
          name,
          token: 'late',
          lost: new AbortController().signal,
          extend: () => Promise.resolve(true),
          release: () => Promise.resolve(void (released += 1)),
        };
        setTimeout(() => resolve(lease), 1_200);
      });
    const snowcap = await start({ replace: ({ locks }) => ({ locks: withMethods(locks, { acquire }) }) });
    const path = await signedPath();
    publish(upstream, path);
    await expectWhole([snowcap], await known([snowcap], path), path);
    await until(() => released === 1);
  });

  it('is counted each time, and a fill says no word of it: the driver says once that it is gone', async () => {
    let down = true;
    const snowcap = await start({
      replace: ({ locks }) => ({
        locks: withMethods(locks, {
          acquire: (name, options) =>
            down ? Promise.reject(new Error('connection refused')) : locks.acquire(name, options),
        }),
      }),
    });
    for (let nth = 1; nth <= 6; nth += 1) {
      down = nth <= 4;
      const path = await signedPath({ name: `path-${nth}`, seed: nth });
      publish(upstream, path);
      await expectWhole([snowcap], await known([snowcap], path), path);
    }
    await snowcap.settled();
    expect(snowcap.metric('snowcap_lock_faults_total')).toBe(4);
    expect(snowcap.logs.filter(({ level }) => level === 'warn' || level === 'error')).toEqual([]);
  });

  it('is told by the clock that a lock is in use, also while the body stands still, and not after', async () => {
    let extended = 0;
    const clock = shiftedClock((milliseconds) => milliseconds === 20_000 && extended < 5);
    const snowcap = await start({
      clock,
      replace: ({ locks }) => ({
        locks: withMethods(locks, {
          async acquire(name, options) {
            const lease = await locks.acquire(name, options);
            if (lease === null) return null;
            return {
              ...lease,
              extend: (ms) => ((extended += 1), ms === 60_000 ? lease.extend(ms) : never()),
            };
          },
        }),
      }),
    });
    const path = await signedPath({ size: 1_500_000 });
    const go = Promise.withResolvers<void>();
    publish(upstream, path, { stallAt: 700_000, until: go.promise });
    const key = await known([snowcap], path);
    const answer = expectWhole([snowcap], key, path);
    await until(() => extended === 5);
    go.resolve();
    await answer;
    await snowcap.settled();
    expect(extended).toBe(5);
  });
});

describe('law 3: two instances that meet different builds of one path', () => {
  let other: FaultServer;

  beforeEach(async () => {
    other = await startFaultServer();
  });

  afterEach(async () => {
    await other.close();
  });

  /** Each instance prefers another upstream. */
  async function pair(): Promise<readonly [TestCache, TestCache]> {
    const [one, two] = [upstream.url, other.url];
    const first = await start({ upstreams: [`${one}?priority=1`, `${two}?priority=2`] });
    return [first, await start({ upstreams: [`${two}?priority=1`, `${one}?priority=2`], sharing: first })];
  }

  it('agree on the one that was recorded first, and give its bytes', async () => {
    const [first, second] = await pair();
    for (const name of ['a', 'b', 'c']) {
      const builds = await Promise.all([
        signedPath({ name, size: 200_000, seed: 1 }),
        signedPath({ name, size: 200_000, seed: 2 }),
      ]);
      publish(upstream, builds[0]);
      publish(other, builds[1]);
      const [keyOfFirst, keyOfSecond] = await Promise.all(
        [first, second].map((one) => servedKey(one, builds[0])),
      );
      expect(keyOfFirst).toBe(keyOfSecond);
      const recorded = builds.find(({ url }) => url === keyOfFirst);
      if (recorded === undefined) throw new Error('One of the builds was recorded');
      await expectWhole([first, second, first, second], recorded.url, recorded);
    }
  });

  it('give a client of either what it was told, with an empty index too', async () => {
    // What the client of the other instance holds, from before the index was lost.
    const builds = await Promise.all([
      signedPath({ size: 200_000, seed: 1, url: ({ hash }) => `nar/${hash}.nar`, fileFields: false }),
      signedPath({ size: 200_000, seed: 2, url: ({ hash }) => `nar/${hash}.nar`, fileFields: false }),
    ]);
    publish(upstream, builds[0]);
    publish(other, builds[1]);
    const [first, second] = await pair();
    const recorded = await known([first, second], builds[0]);
    for (const build of builds) {
      const key = `nar/${build.hash}-${build.narHash.slice('sha256:'.length)}.nar`;
      await expectWhole([first, second], key, build);
      await Promise.all([first.settled(), second.settled()]);
      const stored = await first.drivers.storage.head(key);
      expect(stored?.size ?? null).toBe(key === recorded ? build.body.length : null);
    }
  });

  it.each(['disk', 'none'] as const)(
    'never mix two encodings of one NAR under one key (spool: %s)',
    async (spool) => {
      // Both call it the same, since neither gives a FileHash: one is twice the other, and both decode to the NAR.
      const plain = await signedPath({
        size: 4_000_000,
        prose: true,
        compression: 'zstd',
        fileFields: false,
      });
      const { zstdCompressSync, constants } = await import('node:zlib');
      const better = {
        ...plain,
        body: zstdCompressSync(plain.nar, { params: { [constants.ZSTD_c_compressionLevel]: 9 } }),
      };
      expect(better.body.equals(plain.body)).toBe(false);
      const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()] as const;
      publish(upstream, plain, [{ stallAt: 50_000, until: gates[0].promise }, { status: 503 }]);
      publish(other, better, { stallAt: 50_000, until: gates[1].promise });
      // No lock: both fill at once. The second finds its recorded source gone, and goes to the other one.
      const locks: Partial<LockManager> = {
        acquire: () => Promise.reject(new Error('connection refused')),
      };
      const options: TestCacheOptions = {
        spool,
        storage: 'file',
        upstreamSettings: { idleTimeoutMs: 10_000 },
        upstreams: [`${upstream.url}?priority=1`, `${other.url}?priority=2`],
        replace: (services) => ({ locks: withMethods(services.locks, locks) }),
      };
      const first = await start(options);
      const second = await start({ ...options, sharing: first });
      const key = await known([first, second], plain);
      const one = download(`${first.url}/${key}`);
      await until(() => upstream.requestsTo(`/${plain.url}`, 'GET').length === 1);
      const two = download(`${second.url}/${key}`);
      await until(() => other.requestsTo(`/${plain.url}`, 'GET').length === 1);
      // The second is done first: its bytes are those of the key.
      gates[1].resolve();
      expect((await two).bytes.equals(better.body)).toBe(true);
      await second.settled();
      gates[0].resolve();
      expect((await one).bytes.equals(plain.body)).toBe(true);
      await first.settled();
      await expectWhole([first, second], key, better);
      const row = (await first.drivers.metadata.getNar(key))?.nar;
      expect(row).toMatchObject({ state: 'present', fileSize: better.body.length });
    },
  );
});

function sleepUntilAborted(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}
