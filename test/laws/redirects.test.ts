import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BackgroundJob } from '../../src/platform.ts';
import { StorageError } from '../../src/storage/blob-store.ts';
import { type Download, download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { servedKey, withMethods } from '../support/replaced.ts';
import { publish, type SignedPath, type SignedPathOptions, signedPath } from '../support/signed-path.ts';
import { startStoreServer, type StoreServer } from '../support/store-server.ts';
import { startTestCache, type TestCache, type TestCacheOptions, until } from '../support/test-cache.ts';

let upstream: FaultServer;
let store: StoreServer;
let snowcap: TestCache;
let jobs: BackgroundJob[];

/** A Snowcap that redirects. @param fillBeforeRedirect as on Lambda; null as elsewhere */
async function start(
  fillBeforeRedirect: number | null,
  { settings, ...options }: TestCacheOptions = {},
): Promise<void> {
  snowcap = await startTestCache({
    upstreams: [upstream.url],
    storage: 'file',
    settings: { delivery: 'redirect', redirectTtlSeconds: 120, fillBeforeRedirect, ...settings },
    platform: {
      fillsOutliveClients: fillBeforeRedirect === null,
      ...(fillBeforeRedirect === null ? {} : { schedule: (job) => Promise.resolve(void jobs.push(job)) }),
    },
    replace: ({ storage }) => ({ storage: store.serving(storage) }),
    ...options,
  });
}

async function known(
  options: SignedPathOptions,
  behaviour: Parameters<typeof publish>[2] = {},
): Promise<[SignedPath, string]> {
  const path = await signedPath(options);
  publish(upstream, path, behaviour);
  return [path, await servedKey(snowcap, path)];
}

async function stored(options: SignedPathOptions): Promise<[SignedPath, string]> {
  const [path, key] = await known(options);
  expect(await snowcap.cache.run({ kind: 'fill', key })).toEqual({ kind: 'done' });
  await snowcap.settled();
  return [path, key];
}

const at = (key: string): string => `${snowcap.url}/${key}`;

/** Follows the redirect as Nix does: the same request again, with its Range. */
async function followed(first: Download, headers: Record<string, string> = {}): Promise<Download> {
  expect(first.status).toBe(307);
  return await download(first.headers.location ?? '', { headers });
}

beforeEach(async () => {
  upstream = await startFaultServer();
  store = await startStoreServer();
  jobs = [];
});

afterEach(async () => {
  await snowcap.close();
  await store.close();
  await upstream.close();
});

describe('a stored NAR is redirected to', () => {
  it.each([1_000, 1_500_000])(
    '(%i bytes) whole and in part, without a byte of it through here',
    async (size) => {
      await start(null);
      const [path, key] = await stored({ size });
      const before = snowcap.metric('snowcap_body_bytes_total', { route: 'nar' });
      const first = await download(at(key));
      expect(first).toMatchObject({ status: 307, ended: 'clean' });
      expect(first.bytes).toHaveLength(0);
      expect(first.headers['cache-control']).toBe('private, no-store');
      expect((await followed(first)).bytes.equals(path.body)).toBe(true);
      const range = 'bytes=100-199';
      const part = await followed(await download(at(key), { headers: { range } }), { range });
      expect(part).toMatchObject({ status: 206 });
      expect(part.bytes.equals(path.body.subarray(100, 200))).toBe(true);
      expect(store.requests).toEqual([`GET /${key}`, `GET /${key} ${range}`]);
      expect(store.lifetimes).toEqual([120, 120]);
      expect(snowcap.metric('snowcap_body_bytes_total', { route: 'nar' })).toBe(before);
      expect(
        snowcap.metric('snowcap_requests_total', { route: 'nar', outcome: 'redirect', status: '307' }),
      ).toBe(2);
    },
  );

  it('never for HEAD, nor for who has it already', async () => {
    await start(null);
    const [path, key] = await stored({ size: 200_000 });
    const head = await download(at(key), { method: 'HEAD' });
    expect(head.status).toBe(200);
    expect(head.headers['content-length']).toBe(String(path.body.length));
    const again = await download(at(key), { headers: { 'if-none-match': head.headers.etag ?? '' } });
    expect(again.status).toBe(304);
    expect(store.lifetimes).toEqual([]);
  });

  it('and its narinfo and its listing are not', async () => {
    await start(1_000_000);
    const [path] = await stored({ size: 200_000 });
    expect((await snowcap.get(`/${path.hash}.narinfo`, { redirect: 'manual' })).status).toBe(200);
    expect((await snowcap.get(`/${path.hash}.ls`, { redirect: 'manual' })).status).toBe(200);
    expect((await snowcap.get(`/${path.hash}.ls`, { redirect: 'manual' })).status).toBe(200);
    expect(store.lifetimes).toEqual([]);
  });

  it('and its signature is in no log', async () => {
    await start(null);
    const [, key] = await stored({ size: 1_000 });
    const { headers } = await download(at(key));
    expect(headers.location).toContain('Signature=');
    expect(JSON.stringify(snowcap.logs)).not.toContain('Signature');
  });

  it('but passes through where the store cannot make a URL, now or ever', async () => {
    await start(null, {
      replace: ({ storage }) => ({
        storage: withMethods(storage, {
          createDownloadUrl: () => Promise.reject(new StorageError('the credentials are gone')),
        }),
      }),
    });
    const [path, key] = await stored({ size: 1_500_000 });
    const one = await download(at(key));
    expect(one).toMatchObject({ status: 200, ended: 'clean' });
    expect(one.bytes.equals(path.body)).toBe(true);
    await snowcap.close();
    await start(5_000_000, { replace: () => ({}) });
    const [other, cold] = await known({ size: 1_500_000 });
    const two = await download(at(cold));
    expect(two.status).toBe(200);
    expect(two.bytes.equals(other.body)).toBe(true);
  });
});

describe('what is not stored is never redirected to the store', () => {
  it('but streamed while it is stored, where it may be', async () => {
    await start(null);
    const [path, key] = await known({ size: 1_500_000 });
    const one = await download(at(key));
    expect(one).toMatchObject({ status: 200, ended: 'clean' });
    expect(one.bytes.equals(path.body)).toBe(true);
    await snowcap.settled();
    expect((await download(at(key))).status).toBe(307);
  });

  it('but streamed where the storage is at fault', async () => {
    await start(null, {
      replace: ({ storage }) => ({
        storage: withMethods(store.serving(storage), {
          head: () => Promise.reject(new StorageError('the store is gone')),
        }),
      }),
    });
    const [path, key] = await known({ size: 300_000 });
    const one = await download(at(key));
    expect(one.status).toBe(200);
    expect(one.bytes.equals(path.body)).toBe(true);
    expect(store.lifetimes).toEqual([]);
  });

  it('and missing is missing', async () => {
    await start(1_000_000);
    expect((await download(at('nar/unknown.nar'))).status).toBe(404);
    const [, gone] = await known({ size: 300_000 }, { status: 404, body: 'gone' });
    expect((await download(at(gone))).status).toBe(404);
    const [, late] = await known({ name: 'large', size: 3_000_000 }, { status: 404, body: 'gone' });
    expect((await download(at(late))).status).toBe(404);
    expect(store.lifetimes).toEqual([]);
  });
});

describe('a small NAR that is not stored', () => {
  it.each<readonly [string, SignedPathOptions]>([
    ['its narinfo gives', {}],
    ['its upstream gives', { fileFields: false, url: () => 'nar/opaque' }],
  ])('whose size %s is stored first, and redirected to', async (_, options) => {
    await start(1_000_000);
    const [path, key] = await known({ size: 800_000, ...options });
    const all = await Promise.all([1, 2, 3].map(() => download(at(key))));
    for (const one of all) expect((await followed(one)).bytes.equals(path.body)).toBe(true);
    expect(upstream.requestsTo(`/${path.url}`, 'GET')).toHaveLength(1);
    await snowcap.settled();
    expect((await snowcap.services.metadata.getNar(key))?.nar.state).toBe('present');
    expect(jobs).toEqual([]);
  });

  it('is an error where it is wrong, and never redirected to', async () => {
    await start(1_000_000);
    const [, key] = await known({ size: 500_000 }, { flipBitAt: 100 });
    const one = await download(at(key));
    expect(one.status).toBe(502);
    expect(one.bytes.toString()).toMatch(/^body_mismatch: /);
    expect(store.lifetimes).toEqual([]);
  });

  it.each<readonly [string, TestCacheOptions]>([
    [
      'the store fails',
      {
        replace: ({ storage }) => ({
          storage: withMethods(store.serving(storage), {
            put: () => Promise.reject(new StorageError('full')),
          }),
        }),
      },
    ],
    ['there is no room for it', { spool: 'none', settings: { bufferLimit: 300_000 } }],
  ])('passes through where %s, and a job is scheduled', async (_, options) => {
    await start(1_000_000, options);
    const [path, key] = await known({ size: 500_000 });
    const one = await download(at(key));
    expect(one.status).toBe(200);
    expect(one.bytes.equals(path.body)).toBe(true);
    await until(() => jobs.length === 1);
    expect(jobs).toEqual([{ kind: 'fill', key }]);
  });
});

describe('a large NAR that is not stored', () => {
  it('is redirected to its upstream, while a job stores it', async () => {
    await start(1_000_000);
    const [path, key] = await known({ size: 1_500_000 });
    const one = await download(at(key));
    expect(one.headers).toMatchObject({
      location: `${upstream.url}/${path.url}`,
      'cache-control': 'private, no-store',
    });
    expect((await followed(one)).bytes.equals(path.body)).toBe(true);
    // One look at the upstream from here, which cost no body.
    expect(upstream.requestsTo(`/${path.url}`).map(({ method }) => method)).toEqual(['HEAD', 'GET']);
    await until(() => jobs.length === 1);
    for (const job of jobs) expect(await snowcap.cache.run(job)).toEqual({ kind: 'done' });
    expect((await download(at(key))).headers.location).toContain(store.url);
    expect(snowcap.metric('snowcap_requests_total', { route: 'nar', outcome: 'upstream-redirect' })).toBe(1);
  });

  it('of unknown size too', async () => {
    await start(1_000_000);
    const quirk = { fileFields: false, url: () => 'nar/opaque?narsize=1', compression: 'zstd' } as const;
    const [path, key] = await known({ size: 1_500_000, ...quirk }, { contentLength: 'chunked' });
    expect((await download(at(key))).headers.location).toBe(`${upstream.url}/${path.url}`);
  });

  it.each<readonly [string, (url: string) => string, SignedPathOptions]>([
    ['needs credentials', (url) => url.replace('//', '//user:secret@'), {}],
    ['has a secret in its URL', (url) => url, { url: () => 'nar/opaque.nar?token=abc', fileFields: false }],
  ])('is not where that %s: 503, until a job has stored it', async (_, url, options) => {
    await start(1_000_000, { upstreams: [url(upstream.url)] });
    const [, key] = await known({ size: 1_500_000, ...options });
    const one = await download(at(key));
    expect(one.status).toBe(503);
    expect(one.bytes.toString()).toMatch(/^fill_scheduled: /);
    expect(one.headers['retry-after']).toBe('5');
    await until(() => jobs.length === 1);
    for (const job of jobs) expect(await snowcap.cache.run(job)).toEqual({ kind: 'done' });
    expect((await download(at(key))).status).toBe(307);
  });

  it('passes through where no upstream may be given away and nothing can store it', async () => {
    const upstreams = [upstream.url.replace('//', '//user:secret@')];
    await start(1_000_000, {
      upstreams,
      settings: { delivery: 'redirect', fillBeforeRedirect: 1_000_000, maxSize: 1_200_000 },
    });
    const [path, key] = await known({ size: 1_500_000 });
    const one = await download(at(key));
    expect(one.status).toBe(200);
    expect(one.bytes.equals(path.body)).toBe(true);
    expect(jobs).toEqual([]);
  });

  it('is not redirected to an upstream that has another body, or lately gave a wrong one', async () => {
    const other = await startFaultServer();
    await start(1_000_000, { upstreams: [`${upstream.url}?priority=1`, `${other.url}?priority=2`] });
    const [path, key] = await known({ size: 1_500_000 }, { body: Buffer.alloc(700) });
    publish(other, path);
    expect((await download(at(key))).status).toBe(502);
    const again = await download(at(key));
    expect(again.headers.location).toBe(`${other.url}/${path.url}`);
    await other.close();
  });

  it('that no path vouches for passes through', async () => {
    await start(1_000_000);
    upstream.route('/nar/whatever.nar', { body: Buffer.alloc(1_500_000, 7) });
    const one = await download(at('nar/whatever.nar'));
    expect(one.status).toBe(200);
    expect(one.bytes).toHaveLength(1_500_000);
  });
});
