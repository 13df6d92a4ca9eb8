import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { publish, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache, until } from '../support/test-cache.ts';

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

function start(): Promise<TestCache> {
  return startTestCache({
    upstreams: [upstream.url],
    storage: 'file',
    directory,
    database: join(directory, 'index.db'),
  });
}

describe('law 2: a body that a crash left between its storing and its index row', () => {
  it.each(['zstd', 'xz'] as const)(
    'is verified and adopted at the first hit of a later process, encoded as %s',
    async (compression) => {
      const path = await signedPath({ compression, size: 100_000 });
      publish(upstream, path);
      const before = await start();
      await before.get(`/${path.hash}.narinfo`);
      await download(`${before.url}/${path.url}`);
      await before.settled();
      // As a kill just after `fill:store-nar` leaves it.
      const known = await before.services.metadata.getNar(path.url);
      await until(async () => {
        const now = await before.services.metadata.getNar(path.url);
        return now !== null && before.services.metadata.markAbsent(path.url, now.nar.generation);
      });
      await before.services.storage.delete([`${path.hash}.narinfo`]);
      await before.close();
      expect(known?.nar.state).toBe('present');

      const after = await start();
      try {
        const seen = await download(`${after.url}/${path.url}`);
        expect(seen.ended).toBe('clean');
        await until(async () => (await after.services.metadata.getNar(path.url))?.nar.state === 'present');
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
});
