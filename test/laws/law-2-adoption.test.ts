import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { servedKey, withMethods } from '../support/replaced.ts';
import { publish, type SignedPath, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache, type TestCacheOptions, until } from '../support/test-cache.ts';

let upstream: FaultServer;
let directory: string;

beforeEach(async () => {
  upstream = await startFaultServer();
  directory = await mkdtemp(join(tmpdir(), 'snowcap-laws-'));
});

afterEach(async () => {
  await upstream.close();
  await rm(directory, { recursive: true, force: true });
});

function start(options: TestCacheOptions = {}): Promise<TestCache> {
  return startTestCache({
    upstreams: [upstream.url],
    storage: 'file',
    directory,
    database: join(directory, 'index.db'),
    ...options,
  });
}

async function stateOf(snowcap: TestCache, key: string): Promise<string | undefined> {
  return (await snowcap.services.metadata.getNar(key))?.nar.state;
}

/** Fills the paths in a process that ends as if it had been killed just after each `fill:store-nar`. */
async function leftBehind(paths: readonly SignedPath[]): Promise<void> {
  const before = await start();
  const { metadata, storage } = before.services;
  for (const path of paths) {
    publish(upstream, path);
    await download(`${before.url}/${await servedKey(before, path)}`);
    await before.settled();
    expect(await stateOf(before, path.url)).toBe('present');
    // Again where its verification came between.
    await until(async () => {
      const now = await metadata.getNar(path.url);
      return now !== null && metadata.markAbsent(path.url, now.nar.generation);
    });
    await storage.delete([`${path.hash}.narinfo`]);
  }
  await before.close();
}

describe('law 2: a body that a crash left between its storing and its index row', () => {
  it.each(['zstd', 'xz'] as const)(
    'is verified and adopted at the first hit of a later process, encoded as %s',
    async (compression) => {
      const path = await signedPath({ compression, size: 100_000 });
      await leftBehind([path]);
      const after = await start();
      try {
        const seen = await download(`${after.url}/${path.url}`);
        expect(seen.ended).toBe('clean');
        await until(async () => (await stateOf(after, path.url)) === 'present');
        const { nar } = (await after.services.metadata.getNar(path.url)) ?? {};
        expect(nar?.verification).toBe('nar');
        expect(await after.services.metadata.totals()).toEqual({
          presentBytes: seen.bytes.length,
          presentNars: 1,
        });
        expect(await after.services.storage.head(`${path.hash}.narinfo`)).not.toBeNull();
      } finally {
        await after.close();
      }
    },
  );

  it('is verified in its turn: however many are hit at once, one is read at a time', async () => {
    const paths = await Promise.all(
      [...Array(6).keys()].map((n) =>
        signedPath({ name: `path-${n}`, seed: n + 1, compression: 'xz', size: 150_000 }),
      ),
    );
    await leftBehind(paths);
    let underway = 0;
    let most = 0;
    const after = await start({
      replace: ({ digestNar }) => ({
        async digestNar(...parts) {
          most = Math.max(most, ++underway);
          // Long enough for the other hits to come.
          await new Promise((resolve) => setTimeout(resolve, 50));
          return await digestNar(...parts).finally(() => (underway -= 1));
        },
      }),
    });
    try {
      await Promise.all(paths.map((path) => download(`${after.url}/${path.url}`)));
      await until(async () => (await after.services.metadata.totals()).presentNars === paths.length);
      expect(most).toBe(1);
    } finally {
      await after.close();
    }
  });

  it.each(['index', 'digest'] as const)(
    'is adopted at a later hit where the %s was at fault at the first one',
    async (what) => {
      const path = await signedPath({ compression: 'xz', size: 100_000 });
      await leftBehind([path]);
      let broken = true;
      const faulty = <T extends readonly unknown[], R>(work: (...parts: T) => Promise<R>) => {
        return (...parts: T): Promise<R> => (broken ? Promise.reject(new Error('At fault')) : work(...parts));
      };
      const after = await start({
        replace: ({ metadata, digestNar }) =>
          what === 'index'
            ? { metadata: withMethods(metadata, { getNar: faulty((...parts) => metadata.getNar(...parts)) }) }
            : { digestNar: faulty(digestNar) },
      });
      try {
        const faults = (): number => after.logs.filter(({ level }) => level !== 'info').length;
        await download(`${after.url}/${path.url}`);
        await until(() => faults() > 0);
        broken = false;
        await after.settled();
        await download(`${after.url}/${path.url}`);
        await until(async () => (await stateOf(after, path.url)) === 'present');
        expect((await after.services.metadata.totals()).presentNars).toBe(1);
      } finally {
        await after.close();
      }
    },
  );
});
