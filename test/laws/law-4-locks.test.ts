import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLocalLocks } from '../../src/lock/local.ts';
import type { Lease, LockManager } from '../../src/lock/lock-manager.ts';
import { systemClock } from '../../src/telemetry/system-clock.ts';
import { download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { servedKey, shiftedClock } from '../support/replaced.ts';
import { publish, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache, type TestCacheOptions } from '../support/test-cache.ts';

const FILL_WAIT_MS = 300;
/** What a lock service may take beyond that. */
const GRACE_MS = 1_000;
/** The heartbeat of a lock, for which nobody waits, and the time for a narinfo. */
const OTHER_WAITS_MS: readonly number[] = [20_000, 10_000];

const never = <T>(): Promise<T> => new Promise<T>(() => undefined);

function locksThat(acquire: LockManager['acquire']): LockManager {
  return { description: 'faulty', acquire, ping: () => Promise.resolve(), close: () => Promise.resolve() };
}

function lease(name: string, changes: Partial<Lease> = {}): Lease {
  return {
    name,
    token: 'one',
    lost: new AbortController().signal,
    extend: () => Promise.resolve(true),
    release: () => Promise.resolve(),
    ...changes,
  };
}

/** Lock services at fault, and whether a fill may go on to be stored with them. */
const LOCKS: readonly (readonly [string, LockManager, 'stored' | 'unsaved'])[] = [
  ['keeps the lock from us', locksThat(() => Promise.resolve(null)), 'unsaved'],
  ['cannot be asked', locksThat(() => Promise.reject(new Error('connection refused'))), 'stored'],
  [
    'throws at once',
    locksThat(() => {
      throw new TypeError('not connected');
    }),
    'stored',
  ],
  ['never answers', locksThat(never), 'stored'],
  ['gives the lock to everybody', locksThat((name) => Promise.resolve(lease(name))), 'stored'],
  [
    'has lost the lease already',
    locksThat((name) =>
      Promise.resolve(lease(name, { lost: AbortSignal.abort(), extend: () => Promise.resolve(false) })),
    ),
    'stored',
  ],
  [
    'fails to extend',
    locksThat((name) =>
      Promise.resolve(lease(name, { extend: () => Promise.reject(new Error('connection reset')) })),
    ),
    'stored',
  ],
  [
    'never answers a release',
    locksThat((name) => Promise.resolve(lease(name, { release: never<void> }))),
    'stored',
  ],
  [
    'fails to release',
    locksThat((name) =>
      Promise.resolve(lease(name, { release: () => Promise.reject(new Error('connection reset')) })),
    ),
    'stored',
  ],
];

let upstream: FaultServer;
const running: TestCache[] = [];

async function start(options: TestCacheOptions = {}): Promise<TestCache> {
  const snowcap = await startTestCache({ upstreams: [upstream.url], storage: 'file', ...options });
  running.push(snowcap);
  return snowcap;
}

beforeEach(async () => {
  upstream = await startFaultServer();
});

afterEach(async () => {
  for (const snowcap of running.splice(0)) await snowcap.close();
  await upstream.close();
});

describe('law 4: locks never carry correctness', () => {
  describe.each(LOCKS)('where the lock service %s', (_, locks, outcome) => {
    it.each([3_000, 2_000_000])('a body of %i bytes is right for all who ask', async (size) => {
      const clock = shiftedClock();
      const settings = { fillWaitMs: FILL_WAIT_MS };
      const snowcap = await start({ clock, settings, replace: () => ({ locks }) });
      const path = await signedPath({ size });
      publish(upstream, path);
      const key = await servedKey(snowcap, path);
      for (const round of ['cold', 'again']) {
        const seen = await Promise.all([1, 2, 3].map(() => download(`${snowcap.url}/${key}`)));
        for (const { status, ended, bytes } of seen) {
          expect({ round, status, ended }).toEqual({ round, status: 200, ended: 'clean' });
          expect(bytes.equals(path.body)).toBe(true);
        }
        await snowcap.settled();
      }
      const bodies = upstream.requestsTo(`/${path.url}`, 'GET').length;
      if (outcome === 'stored') expect(bodies).toBe(1);
      else expect(bodies).toBe(6);
      expect((await snowcap.services.storage.head(key))?.size ?? null).toBe(
        outcome === 'stored' ? path.body.length : null,
      );
      // What a client can lose by a lock service: the wait for the lock, and the patience beyond it.
      const beyond = clock.waits.filter((milliseconds) => milliseconds > FILL_WAIT_MS + GRACE_MS);
      expect(beyond.filter((milliseconds) => !OTHER_WAITS_MS.includes(milliseconds))).toEqual([]);
    });
  });

  it('a lease that is lost in the middle of a fill changes nothing for anybody', async () => {
    const clock = shiftedClock();
    const lost = new AbortController();
    const locks = locksThat((name) =>
      Promise.resolve(lease(name, { lost: lost.signal, extend: () => Promise.resolve(false) })),
    );
    const snowcap = await start({ clock, replace: () => ({ locks }) });
    const path = await signedPath({ size: 1_500_000 });
    const go = Promise.withResolvers<void>();
    publish(upstream, path, { stallAt: 700_000, until: go.promise });
    const key = await servedKey(snowcap, path);
    const answer = download(`${snowcap.url}/${key}`, {
      onProgress: (bytes) => {
        if (bytes < 500_000 || lost.signal.aborted) return;
        lost.abort(new Error('the lease ran out'));
        clock.advance(600_000);
        go.resolve();
      },
    });
    const { ended, bytes } = await answer;
    expect(ended).toBe('clean');
    expect(bytes.equals(path.body)).toBe(true);
    await snowcap.settled();
    expect((await snowcap.services.metadata.getNar(key))?.nar.state).toBe('present');
  });
});

describe('law 4: two instances over one storage and one index', () => {
  let directory: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'snowcap-laws-'));
  });

  afterEach(async () => {
    for (const snowcap of running.splice(0)) await snowcap.close();
    await rm(directory, { recursive: true, force: true });
  });

  const both = async (
    locks: LockManager,
    settings: TestCacheOptions['settings'] = {},
  ): Promise<readonly [TestCache, TestCache]> => {
    const options: TestCacheOptions = {
      directory,
      database: join(directory, 'index.db'),
      settings,
      replace: () => ({ locks }),
    };
    return [await start(options), await start(options)];
  };

  it('download once where they share a lock', async () => {
    const locks = createLocalLocks({ clock: systemClock });
    const [one, two] = await both(locks);
    const path = await signedPath({ size: 1_500_000 });
    publish(upstream, path, { bytesPerSecond: 3_000_000 });
    const key = await servedKey(one, path);
    expect(await servedKey(two, path)).toBe(key);
    const seen = await Promise.all([one, two].map(({ url }) => download(`${url}/${key}`)));
    for (const { ended, bytes } of seen) {
      expect(ended).toBe('clean');
      expect(bytes.equals(path.body)).toBe(true);
    }
    expect(upstream.requestsTo(`/${path.url}`, 'GET')).toHaveLength(1);
    await locks.close();
  });

  it('leave one whole object where both hold the lock', async () => {
    const [one, two] = await both(locksThat((name) => Promise.resolve(lease(name))));
    const path = await signedPath({ size: 1_500_000, compression: 'zstd' });
    publish(upstream, path, { bytesPerSecond: 3_000_000 });
    const key = await servedKey(one, path);
    await servedKey(two, path);
    const seen = await Promise.all([one, two, one, two].map(({ url }) => download(`${url}/${key}`)));
    for (const { ended, bytes } of seen) {
      expect(ended).toBe('clean');
      expect(bytes.equals(path.body)).toBe(true);
    }
    expect(upstream.requestsTo(`/${path.url}`, 'GET')).toHaveLength(2);
    await Promise.all([one.settled(), two.settled()]);
    expect((await one.services.storage.head(key))?.size).toBe(path.body.length);
    expect((await two.services.metadata.getNar(key))?.nar.state).toBe('present');
    expect(await two.services.metadata.totals()).toEqual({
      presentBytes: path.body.length,
      presentNars: 1,
    });
  });

  it('do not wait for one that died with the lock: the body passes, right, and is stored when the lease is over', async () => {
    let dead = true;
    const [one] = await both(
      locksThat((name, { waitMs }) => {
        expect(waitMs).toBeLessThanOrEqual(FILL_WAIT_MS);
        return Promise.resolve(dead ? null : lease(name));
      }),
      { fillWaitMs: FILL_WAIT_MS },
    );
    const path = await signedPath({ size: 300_000 });
    publish(upstream, path);
    const key = await servedKey(one, path);
    const { ended, bytes } = await download(`${one.url}/${key}`);
    expect(ended).toBe('clean');
    expect(bytes.equals(path.body)).toBe(true);
    await one.settled();
    expect(await one.services.storage.head(key)).toBeNull();
    dead = false;
    expect((await download(`${one.url}/${key}`)).ended).toBe('clean');
    await one.settled();
    expect((await one.services.storage.head(key))?.size).toBe(path.body.length);
  });
});
