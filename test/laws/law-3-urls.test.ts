import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Download, download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { publish, type SignedPath, type SignedPathOptions, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache } from '../support/test-cache.ts';
import { UPSTREAM_COMPRESSIONS } from '../support/upstream-cache.ts';

let first: FaultServer;
let second: FaultServer;
let snowcap: TestCache;
let started: TestCache[];

beforeEach(async () => {
  first = await startFaultServer();
  second = await startFaultServer();
  started = [];
  await emptyCache();
});

afterEach(async () => {
  for (const cache of started) await cache.close();
  await first.close();
  await second.close();
});

/** Another Snowcap: its storage and index are empty. */
async function emptyCache(): Promise<void> {
  snowcap = await startTestCache({
    upstreams: [`${first.url}?priority=10`, `${second.url}?priority=20`],
    upstreamSettings: { hedgeMs: 1000 },
  });
  started.push(snowcap);
}

async function narInfoOf({ hash }: SignedPath): Promise<string> {
  return await (await snowcap.get(`/${hash}.narinfo`)).text();
}

async function urlOf(path: SignedPath): Promise<string> {
  const text = await narInfoOf(path);
  return /^URL: (.*)$/m.exec(text)?.[1] ?? `no URL in ${text}`;
}

function nar(url: string): Promise<Download> {
  return download(`${snowcap.url}/${url}`);
}

function expectBody(seen: Download, path: SignedPath): void {
  expect(seen).toMatchObject({ status: 200, ended: 'clean' });
  expect(seen.bytes.equals(path.body)).toBe(true);
}

function derivedKey(path: SignedPath, extension: string): string {
  return `nar/${path.hash}-${path.narHash.slice('sha256:'.length)}.nar${extension}`;
}

const EXTENSION = { none: '', xz: '.xz', zstd: '.zst', br: '.br', bzip2: '.bz2', gzip: '.gz' } as const;

/** What upstreams of other makers call their NARs. */
const FOREIGN: readonly (readonly [string, SignedPathOptions])[] = [
  ['an opaque name', { url: () => 'nar/5a1e3a9c-6a3f-4a93-b5f2-1d5a3c1b2e77.nar.zst' }],
  ['a query', { url: ({ fileHash }) => `nar/${fileHash}.nar?hash=abc` }],
  ['a query that it cannot do without', { url: () => 'nar/snix-castore/blob?narsize=1234' }],
  ['the hash of the store path', { url: ({ hash }) => `nar/${hash}.nar` }],
  ['another folder', { url: ({ fileHash }) => `cache/${fileHash}.nar.zst` }],
  ['another hash', { url: ({ fileHash }) => `nar/${fileHash.slice(1)}${fileHash.slice(0, 1)}.nar.zst` }],
  ['escapes', { url: () => 'nar/a%20b%2Bc.nar' }],
];

describe('law 3: the URL of a narinfo', () => {
  it.each(UPSTREAM_COMPRESSIONS)(
    "is the upstream's own where it names the FileHash, with %s",
    async (compression) => {
      const path = await signedPath({ compression, size: 70_000 });
      publish(first, path);
      expect(await urlOf(path)).toBe(path.url);
      expectBody(await nar(path.url), path);
    },
  );

  it.each(FOREIGN)(
    "is derived from store path and NarHash where the upstream's has %s",
    async (_, options) => {
      const path = await signedPath({ ...options, compression: 'zstd', size: 70_000 });
      publish(first, path);
      const key = await urlOf(path);
      expect(key).toBe(derivedKey(path, '.zst'));
      expectBody(await nar(key), path);
      expect(first.requestsTo(`/${path.url}`)).toHaveLength(1);
      await snowcap.settled();
      expectBody(await nar(key), path);
      expect(first.requestsTo(`/${path.url}`)).toHaveLength(1);
    },
  );

  it.each(UPSTREAM_COMPRESSIONS)(
    'is derived where the upstream gives no FileHash, with %s',
    async (compression) => {
      const path = await signedPath({ compression, size: 70_000, fileFields: false });
      publish(first, path);
      const key = await urlOf(path);
      expect(key).toBe(derivedKey(path, EXTENSION[compression]));
      expectBody(await nar(key), path);
      await snowcap.settled();
      // What was learnt of the body is told from then on.
      expect(await narInfoOf(path)).toContain(`FileHash: ${path.fileHash}\nFileSize: ${path.body.length}\n`);
    },
  );

  it('is the one recorded first, where two upstreams have different builds', async () => {
    const one = await signedPath({ compression: 'xz', seed: 1, size: 70_000 });
    const other = await signedPath({ compression: 'xz', seed: 2, size: 70_000 });
    publish(second, other);
    expect(await urlOf(other)).toBe(other.url);
    publish(first, one);
    const again = await narInfoOf(one);
    expect(again).toContain(`NarHash: ${other.narHash}\n`);
    expectBody(await nar(other.url), other);
    await snowcap.settled();
    expect(await narInfoOf(one)).toContain(`URL: ${other.url}\n`);
  });
});

describe('law 3: a URL goes on answering', () => {
  it.each(FOREIGN)(
    'with an empty index and storage, where it was derived because of %s',
    async (_, options) => {
      const path = await signedPath({ ...options, compression: 'zstd', size: 70_000 });
      publish(first, path);
      expectBody(await nar(derivedKey(path, '.zst')), path);
      await snowcap.settled();
      expect(await snowcap.services.storage.head(derivedKey(path, '.zst'))).not.toBeNull();
    },
  );

  it('with an empty index, where it names the FileHash: it passes through from any upstream, unsaved', async () => {
    const path = await signedPath({ compression: 'xz', size: 70_000 });
    second.route(`/${path.url}`, { body: path.body });
    const seen = await nar(path.url);
    expectBody(seen, path);
    expect(seen.headers['cache-control']).toBe('no-store');
    expect(await snowcap.services.storage.head(path.url)).toBeNull();
    expectBody(await nar(path.url), path);
  });

  it('with an empty index, where it names the FileHash: other bytes are an error', async () => {
    const path = await signedPath({ compression: 'xz', size: 300_000 });
    second.route(`/${path.url}`, { body: path.body, flipBitAt: 1000 });
    const seen = await nar(path.url);
    expect(seen.status).toBe(200);
    expect(seen.ended).toBe('broken');
    const small = await signedPath({ compression: 'xz', size: 3000 });
    second.route(`/${small.url}`, { body: small.body, flipBitAt: 1000 });
    expect((await nar(small.url)).status).toBe(502);
    for (const range of ['bytes=0-', 'bytes=-1', 'bytes=1000-99999999']) {
      const part = await download(`${snowcap.url}/${path.url}`, { headers: { range } });
      expect(part.status === 206 ? part.ended : part.status).toBeOneOf(['broken', 502]);
    }
  });

  it('when only the NAR is asked for, before its narinfo ever was', async () => {
    const path = await signedPath({ compression: 'br', size: 70_000, url: () => 'nar/opaque' });
    publish(first, path);
    expectBody(await nar(derivedKey(path, '.br')), path);
    expect(await urlOf(path)).toBe(derivedKey(path, '.br'));
  });

  it('when its source is gone and another upstream has the same encoding under another name', async () => {
    const path = await signedPath({ compression: 'zstd', size: 70_000 });
    publish(first, path);
    const key = await urlOf(path);
    first.route(`/${path.url}`, { status: 404, body: '' });
    publish(second, await signedPath({ compression: 'zstd', size: 70_000, url: () => 'nar/renamed' }));
    expectBody(await nar(key), path);
  });

  it('when its source is down and another upstream has the same', async () => {
    const path = await signedPath({ compression: 'zstd', size: 70_000 });
    publish(first, path);
    publish(second, path);
    const key = await urlOf(path);
    await first.down();
    expectBody(await nar(key), path);
  });

  it('when its body was deleted from storage by hand', async () => {
    const path = await signedPath({ compression: 'zstd', size: 70_000 });
    publish(first, path);
    await nar(await urlOf(path));
    await snowcap.settled();
    await snowcap.services.storage.delete([path.url]);
    expectBody(await nar(path.url), path);
    await snowcap.settled();
    expect(await snowcap.services.storage.head(path.url)).not.toBeNull();
  });

  it('where the index was lost and now knows another encoding of its path', async () => {
    const xz = await signedPath({ compression: 'xz', size: 70_000, url: () => 'nar/one' });
    const zstd = await signedPath({ compression: 'zstd', size: 70_000, url: () => 'nar/two' });
    publish(first, xz);
    publish(second, zstd);
    expect(await urlOf(xz)).toBe(derivedKey(xz, '.xz'));
    // A client has it from before; only the second upstream gives that encoding.
    expectBody(await nar(derivedKey(zstd, '.zst')), zstd);
    expect(await snowcap.services.storage.head(derivedKey(zstd, '.zst'))).toBeNull();
    expectBody(await nar(derivedKey(xz, '.xz')), xz);
    const head = await download(`${snowcap.url}/${derivedKey(zstd, '.zst')}`, { method: 'HEAD' });
    expect(head.headers['content-length']).toBe(String(zstd.body.length));
  });

  it('as an error, not as missing, while the upstream that has it is down', async () => {
    const path = await signedPath({ compression: 'zstd', url: () => 'nar/opaque' });
    publish(first, path);
    await first.down();
    expect((await nar(derivedKey(path, '.zst'))).status).toBe(502);
    await first.up();
    expectBody(await nar(derivedKey(path, '.zst')), path);
  });
});

describe('law 3: encodings are never mixed under one key', () => {
  it.each([
    ['xz', 'zstd'],
    ['gzip', 'none'],
    ['none', 'gzip'],
    ['bzip2', 'br'],
  ] as const)('where one upstream has %s and the other %s', async (one, other) => {
    const here = await signedPath({ compression: one, size: 70_000, fileFields: false });
    const there = await signedPath({ compression: other, size: 70_000, fileFields: false });
    // The same URL, of another encoding: as with nix-serve beside a cache that compresses.
    publish(first, {
      ...here,
      url: 'nar/same',
      narInfo: here.narInfo.replace(/^URL: .*$/m, 'URL: nar/same'),
    });
    publish(second, {
      ...there,
      url: 'nar/same',
      narInfo: there.narInfo.replace(/^URL: .*$/m, 'URL: nar/same'),
    });
    const key = await urlOf(here);
    expect(key).toBe(derivedKey(here, EXTENSION[one]));
    // The source goes: the other one must not step in with other bytes.
    first.route('/nar/same', { status: 404, body: '' });
    const seen = await nar(key);
    expect(seen.status).toBe(404);
    first.route('/nar/same', { body: here.body });
    expectBody(await nar(key), here);
    expectBody(await nar(derivedKey(there, EXTENSION[other])), there);
    await snowcap.settled();
    expectBody(await nar(key), here);
  });

  it('where an upstream replaces a body by another build: the key keeps its bytes', async () => {
    const path = await signedPath({ compression: 'zstd', size: 70_000, url: () => 'nar/opaque' });
    const rebuilt = await signedPath({ compression: 'zstd', size: 70_000, seed: 2, url: () => 'nar/opaque' });
    publish(first, path);
    const key = await urlOf(path);
    publish(first, rebuilt);
    const seen = await nar(key);
    expect(seen.status === 200 ? seen.ended : seen.status).toBeOneOf(['broken', 502]);
    expect(await snowcap.services.storage.head(key)).toBeNull();
  });
});
