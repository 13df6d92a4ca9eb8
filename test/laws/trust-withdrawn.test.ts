import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MetadataError, type MetadataStore } from '../../src/database/metadata-store.ts';
import { formatPublicKey, generateSecretKey } from '../../src/nix/signing-key.ts';
import type { SecretKey } from '../../src/nix/signing-key.ts';
import { download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { servedKey, withMethods } from '../support/replaced.ts';
import { publish, type SignedPath, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache, type TestCacheOptions } from '../support/test-cache.ts';

let directory: string;
let upstream: FaultServer;
let snowcap: TestCache | null = null;
let own: SecretKey;
let one: SecretKey;
let two: SecretKey;

/** Starts the cache (again) over the same storage and index, and lets it do what it does at a start. */
async function restart(
  trusted: readonly SecretKey[],
  options: TestCacheOptions & { readonly query?: string } = {},
): Promise<TestCache> {
  await snowcap?.close();
  snowcap = await startTestCache({
    upstreams: [`${upstream.url}${options.query ?? ''}`],
    trustedPublicKeys: trusted.map((key) => formatPublicKey(key.publicKey)),
    secretKeys: [own],
    directory,
    storage: 'file',
    database: join(directory, 'index.db'),
    ...options,
  });
  await snowcap.cache.startUp();
  return snowcap;
}

/** Fills the NAR of a path, with its listing. */
async function fill(cache: TestCache, path: SignedPath): Promise<string> {
  const key = await servedKey(cache, path);
  expect((await download(`${cache.url}/${key}`)).bytes.equals(path.body)).toBe(true);
  expect((await cache.get(`/${path.hash}.ls`)).status).toBe(200);
  await cache.settled();
  return key;
}

async function bucketNarInfo({ hash }: SignedPath): Promise<string | null> {
  return await readFile(join(directory, 'storage', `${hash}.narinfo`), 'utf8').catch(() => null);
}

const status = async (cache: TestCache, target: string): Promise<number> =>
  (await cache.get(`/${target}`)).status;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'snowcap-laws-'));
  upstream = await startFaultServer();
  own = await generateSecretKey('snowcap.test-1');
  one = await generateSecretKey('one-1');
  two = await generateSecretKey('two-1');
});

afterEach(async () => {
  await snowcap?.close();
  snowcap = null;
  await upstream.close();
  await rm(directory, { recursive: true, force: true });
});

describe('a key that is no longer trusted takes its paths with it', () => {
  it('they are not served, leave the bucket, and are back with the key, without a download', async () => {
    const path = await signedPath({ key: one, size: 50_000 });
    publish(upstream, path);
    await fill(await restart([one]), path);
    expect(await bucketNarInfo(path)).toContain(path.storePath);

    const without = await restart([two]);
    expect(await status(without, `${path.hash}.narinfo`)).toBe(404);
    expect(await status(without, `${path.hash}.ls`)).toBe(404);
    expect(await bucketNarInfo(path)).toBeNull();

    await upstream.down();
    const again = await restart([two, one]);
    expect(await status(again, `${path.hash}.narinfo`)).toBe(200);
    expect(await bucketNarInfo(path)).toContain(path.storePath);
    expect((await download(`${again.url}/${path.url}`)).bytes.equals(path.body)).toBe(true);
    expect(upstream.requestsTo(`/${path.url}`)).toHaveLength(1);
  });

  it('they come back when another trusted key has signed them', async () => {
    const path = await signedPath({ key: one, size: 50_000 });
    publish(upstream, path);
    await fill(await restart([one]), path);
    const anew = await signedPath({ key: two, size: 50_000 });
    expect(anew.storePath).toBe(path.storePath);
    publish(upstream, anew);
    const cache = await restart([two]);
    expect(await bucketNarInfo(path)).toBeNull();
    const text = await (await cache.get(`/${path.hash}.narinfo`)).text();
    expect(text).toMatch(/^Sig: two-1:.*\nSig: snowcap.test-1:.*\n$/m);
    await cache.close();
    snowcap = null;
    expect(await bucketNarInfo(path)).toBe(text);
    expect(upstream.requestsTo(`/${path.url}`)).toHaveLength(1);
  });

  it('a path that a second trusted key has signed stays, with no upstream asked', async () => {
    const path = await signedPath({ key: one, size: 50_000 });
    const second = /^Sig: .*$/m.exec((await signedPath({ key: two, size: 50_000 })).narInfo)?.[0];
    publish(upstream, { ...path, narInfo: `${path.narInfo}${second}\n` });
    await fill(await restart([one, two]), path);
    await upstream.down();
    const cache = await restart([two]);
    expect(await (await cache.get(`/${path.hash}.narinfo`)).text()).toContain('Sig: one-1:');
    expect(await bucketNarInfo(path)).toContain(path.storePath);
    const known = await cache.services.metadata.getPath(path.hash);
    expect(known?.path.justification).toEqual({ kind: 'key', publicKey: formatPublicKey(two.publicKey) });
  });

  it('our own signature does not keep a path, also where our own key is trusted', async () => {
    const path = await signedPath({ key: one });
    publish(upstream, path);
    await fill(await restart([one, own]), path);
    expect(await status(await restart([own]), `${path.hash}.narinfo`)).toBe(404);
  });

  it('with the upstreams down it is a fault that the path cannot be verified anew, not a 404', async () => {
    const path = await signedPath({ key: one });
    publish(upstream, path);
    await fill(await restart([one]), path);
    await upstream.down();
    expect(await status(await restart([two]), `${path.hash}.narinfo`)).toBe(502);
  });

  it('paths of an upstream whose unsigned paths are not accepted any more go too', async () => {
    const path = await signedPath({ key: null });
    publish(upstream, path);
    expect(await status(await restart([one]), `${path.hash}.narinfo`)).toBe(404);
    await fill(await restart([one], { query: '?unsigned=allow' }), path);
    const cache = await restart([one]);
    expect(await bucketNarInfo(path)).toBeNull();
    expect(await status(cache, `${path.hash}.narinfo`)).toBe(404);
  });

  it('their narinfos do not come into the bucket with the body of another path', async () => {
    // Two paths of the same content share one NAR.
    const gone = await signedPath({ key: one, name: 'gone' });
    const kept = await signedPath({ key: two, name: 'kept' });
    expect(gone.url).toBe(kept.url);
    publish(upstream, gone);
    publish(upstream, kept);
    const first = await restart([one, two]);
    await servedKey(first, gone);
    await servedKey(first, kept);
    await fill(await restart([two]), kept);
    expect(await bucketNarInfo(kept)).toContain(kept.storePath);
    expect(await bucketNarInfo(gone)).toBeNull();
  });

  it('they do not come into the bucket where another instance recorded them meanwhile', async () => {
    const path = await signedPath({ key: one, size: 50_000 });
    publish(upstream, path);
    await fill(await restart([one]), path);
    publish(upstream, await signedPath({ key: two, size: 50_000 }));
    let looks = 0;
    const cache = await restart([two], {
      replace: ({ metadata }) => ({
        metadata: withMethods<MetadataStore>(metadata, {
          // The row is there only when this instance comes to record its own.
          getPath: (hash) => ((looks += 1) === 1 ? Promise.resolve(null) : metadata.getPath(hash)),
        }),
      }),
    });
    expect(await status(cache, `${path.hash}.narinfo`)).toBe(404);
    expect(looks).toBeGreaterThan(0);
    await cache.settled();
    expect(await bucketNarInfo(path)).toBeNull();
  });

  it('they are not served from the bucket where the index is at fault from the start', async () => {
    const path = await signedPath({ key: one, size: 50_000 });
    publish(upstream, path);
    await fill(await restart([one]), path);
    const fault = (): Promise<never> => Promise.reject(new MetadataError('Cannot read: disk I/O error'));
    const replace: TestCacheOptions['replace'] = ({ metadata }) => ({
      metadata: withMethods<MetadataStore>(metadata, { getPath: fault, listPaths: fault }),
    });
    expect(await status(await restart([two], { replace }), `${path.hash}.narinfo`)).toBe(502);
    expect(await bucketNarInfo(path)).toContain(path.storePath);
    // With the trust that the bucket was last checked against, the same fault costs nothing.
    expect(await status(await restart([one], { replace }), `${path.hash}.narinfo`)).toBe(200);
  });

  it('a path that another instance justified in the meantime is served only if that holds here', async () => {
    const path = await signedPath({ key: one });
    const second = /^Sig: .*$/m.exec((await signedPath({ key: two })).narInfo)?.[0];
    publish(upstream, { ...path, narInfo: `${path.narInfo}${second}\n` });
    await fill(await restart([one]), path);
    // Somebody else always writes first, and that one trusts the first key.
    const rejustifyPath: MetadataStore['rejustifyPath'] = () => Promise.resolve(false);
    upstream.route(`/${path.hash}.narinfo`, { status: 404 });
    const cache = await restart([two], {
      replace: ({ metadata }) => ({ metadata: withMethods<MetadataStore>(metadata, { rejustifyPath }) }),
    });
    expect(await status(cache, `${path.hash}.narinfo`)).toBe(404);
  });
});
