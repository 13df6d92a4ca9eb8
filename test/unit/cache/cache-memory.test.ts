import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Cache, createCache } from '../../../src/cache/cache.ts';
import { createCacheMemory } from '../../../src/cache/cache-memory.ts';
import { type FaultServer, startFaultServer } from '../../support/fault-server.ts';
import { publish, type SignedPath, signedPath } from '../../support/signed-path.ts';
import { startTestCache, type TestCache } from '../../support/test-cache.ts';

let upstream: FaultServer;
let process: TestCache;
let path: SignedPath;

beforeEach(async () => {
  upstream = await startFaultServer();
  process = await startTestCache({
    upstreams: [upstream.url],
    settings: { narInfoTtlMs: 60_000, negativeTtlMs: 60_000 },
  });
  path = await signedPath();
  publish(upstream, path);
});

afterEach(async () => {
  await process.close();
  await upstream.close();
});

/** Makes a cache for each request over one memory, as a runtime does whose requests must not meet. */
function perRequest(): () => Cache {
  const { services } = process;
  const memory = createCacheMemory(services.settings, services.platform);
  return () => createCache(services, memory);
}

describe('Caches that are wired for each request, over one memory', () => {
  test('remember narinfos, NARs and what is missing for each other', async () => {
    const wired = perRequest();
    const key = `nar/${path.fileHash.slice('sha256:'.length)}.nar`;
    expect(await wired().getNarInfo(path.hash)).toMatchObject({ kind: 'found', outcome: 'upstream' });
    expect(await wired().getNarInfo(path.hash)).toMatchObject({ kind: 'found', outcome: 'memory' });
    const missing = '0'.repeat(32);
    expect(await wired().getNarInfo(missing)).toMatchObject({ kind: 'missing', outcome: 'missing' });
    expect(await wired().getNarInfo(missing)).toMatchObject({ kind: 'missing', outcome: 'negative' });
    expect(await wired().getNar({ key, query: '' })).toMatchObject({ kind: 'body', outcome: 'fill' });
    await process.settled();
    const before = process.operations['storage.get'] ?? 0;
    for (let i = 0; i < 3; i += 1) {
      expect(await wired().getNar({ key, query: '' })).toMatchObject({ kind: 'body', outcome: 'hit' });
    }
    expect(process.operations['storage.get']).toBe(before + 1);
  });

  test('do not share what is under way: one that hangs holds nobody up', async () => {
    const wired = perRequest();
    const { promise: never } = Promise.withResolvers<void>();
    upstream.route(`/${path.hash}.narinfo`, { stallAt: 'headers', until: never });
    const hanging = wired().getNarInfo(path.hash);
    hanging.catch(() => undefined);
    while (upstream.requests.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    publish(upstream, path);
    expect(await wired().getNarInfo(path.hash)).toMatchObject({ kind: 'found', outcome: 'upstream' });
  });
});
