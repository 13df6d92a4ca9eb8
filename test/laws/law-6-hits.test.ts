import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { CacheServices } from '../../src/cache/services.ts';
import { MetadataError, type MetadataStore } from '../../src/database/metadata-store.ts';
import type { LockManager } from '../../src/lock/lock-manager.ts';
import { download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { servedKey } from '../support/replaced.ts';
import { publish, type SignedPath, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache } from '../support/test-cache.ts';

const brokenLocks: LockManager = {
  description: 'locks out of order',
  acquire: () => Promise.reject(new Error('connection refused')),
  ping: () => Promise.reject(new Error('connection refused')),
  close: () => Promise.resolve(),
};

let upstream: FaultServer;
let snowcap: TestCache;
let path: SignedPath;
let key: string;
/** What each operation of the index does while it is broken; null while it works. */
let indexFault: (() => Promise<never>) | null;

function breakable({ metadata }: CacheServices): MetadataStore {
  return new Proxy(metadata, {
    get(object, name): unknown {
      const member: unknown = Reflect.get(object, name, object);
      if (typeof member !== 'function') return member;
      return (...given: readonly unknown[]): unknown =>
        indexFault === null ? Reflect.apply(member, object, given) : indexFault();
    },
  });
}

beforeEach(async () => {
  indexFault = null;
  upstream = await startFaultServer();
  snowcap = await startTestCache({
    upstreams: [upstream.url],
    storage: 'file',
    replace: (services) => ({ metadata: breakable(services), locks: brokenLocks }),
  });
  await snowcap.cache.startUp();
  path = await signedPath({ size: 700_000, compression: 'zstd' });
  publish(upstream, path);
  key = await servedKey(snowcap, path);
  await snowcap.get(`/${path.hash}.ls`);
  await snowcap.settled();
  await upstream.down();
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

async function expectHits(): Promise<void> {
  const narInfo = await snowcap.get(`/${path.hash}.narinfo`);
  expect(narInfo.status).toBe(200);
  expect(await narInfo.text()).toMatch(new RegExp(`URL: ${key}\n[^]*Sig: .*\nSig: `));
  expect((await snowcap.get(`/${path.hash}.narinfo`, { method: 'HEAD' })).status).toBe(200);
  const url = `${snowcap.url}/${key}`;
  const whole = await download(url);
  expect(whole).toMatchObject({ status: 200, ended: 'clean' });
  expect(whole.bytes.equals(path.body)).toBe(true);
  const part = await download(url, { headers: { range: 'bytes=-1000' } });
  expect(part).toMatchObject({ status: 206, ended: 'clean' });
  expect(part.bytes.equals(path.body.subarray(-1000))).toBe(true);
  const head = await download(url, { method: 'HEAD' });
  expect(head).toMatchObject({ status: 200, headers: { 'content-length': String(path.body.length) } });
  expect((await download(url, { headers: { 'if-none-match': head.headers.etag ?? '' } })).status).toBe(304);
  expect((await snowcap.get(`/${path.hash}.ls`)).status).toBe(200);
  for (const target of ['/nix-cache-info', '/pubkey', '/healthz', '/'])
    expect((await snowcap.get(target)).status).toBe(200);
}

async function problems(): Promise<readonly [number, Record<string, boolean>]> {
  const response = await snowcap.get('/readyz');
  const { dependencies } = (await response.json()) as {
    dependencies: readonly { readonly name: string; readonly ok: boolean }[];
  };
  return [response.status, Object.fromEntries(dependencies.map(({ name, ok }) => [name, ok]))];
}

describe('law 6: what is stored is served', () => {
  it('with every upstream and the locks down', async () => {
    await expectHits();
    expect(await problems()).toEqual([200, { storage: true, index: true, locks: false, upstream: true }]);
    for (let attempt = 0; attempt < 5; attempt += 1) await snowcap.get(`/${'0'.repeat(32)}.narinfo`);
    await expectHits();
    expect(await problems()).toEqual([200, { storage: true, index: true, locks: false, upstream: false }]);
  });

  it.each<readonly [string, () => Promise<never>]>([
    [
      'out of order',
      () => Promise.reject(new MetadataError('Cannot read: database disk image is malformed')),
    ],
    ['failing in a way that nobody foresaw', () => Promise.reject(new TypeError('x is not a function'))],
  ])('with the index %s too', async (_, fault) => {
    indexFault = fault;
    await expectHits();
    expect(await problems()).toEqual([200, { storage: true, index: false, locks: false, upstream: true }]);
    const missing = await snowcap.get(`/${'0'.repeat(32)}.narinfo`);
    expect([500, 502]).toContain(missing.status);
    indexFault = null;
    await expectHits();
    expect((await problems())[0]).toBe(200);
  });

  it('and the accesses of that time are recorded when the index is back', async () => {
    indexFault = () => Promise.reject(new MetadataError('Cannot write: disk I/O error'));
    await expectHits();
    await snowcap.cache.flush();
    indexFault = null;
    await expectHits();
    await snowcap.cache.flush();
    expect(snowcap.operations['metadata.touch']).toBe(1);
  });
});
