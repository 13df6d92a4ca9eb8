import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { BlobStore } from '../../../src/storage/blob-store.ts';
import { StorageError } from '../../../src/storage/blob-store.ts';
import type { S3StoreOptions } from '../../../src/storage/s3/options.ts';
import { createS3Store } from '../../../src/storage/s3/s3.ts';
import { startS3FaultProxy } from '../../support/s3-fault-proxy.ts';
import type { S3Server } from '../../support/s3-server.ts';
import { startS3Server } from '../../support/s3-server.ts';
import { s3StoreOptions } from '../../support/s3-store.ts';
import { bytesOf, noise } from './subject.ts';

const KEY = 'nar/one.nar.xz';

let server: S3Server;

beforeAll(async () => {
  server = await startS3Server();
});

afterAll(async () => {
  await server.close();
});

function open(options: Partial<S3StoreOptions> = {}): BlobStore {
  const store = createS3Store({ ...s3StoreOptions(server), ...options });
  onTestFinished(() => store.close());
  return store;
}

async function urlOf(store: BlobStore, expiresInSeconds: number): Promise<URL> {
  const url = await store.createDownloadUrl?.(KEY, { expiresInSeconds });
  return new URL(url ?? 'missing:');
}

/** Seconds that a URL says it works. */
function expiryOf(url: URL): number {
  return Number(url.searchParams.get('X-Amz-Expires'));
}

describe('a download URL', () => {
  test('gives the object to anybody, ranges included, with its type', async () => {
    const store = open();
    const bytes = noise(100_000);
    await store.put(KEY, { kind: 'bytes', bytes }, { contentType: 'application/x-nix-nar' });
    const url = await urlOf(store, 300);
    expect(expiryOf(url)).toBe(300);
    const answer = await fetch(url);
    expect(answer.status).toBe(200);
    expect(answer.headers.get('content-type')).toBe('application/x-nix-nar');
    expect(Buffer.compare(new Uint8Array(await answer.arrayBuffer()), bytes)).toBe(0);
    const part = await fetch(url, { headers: { Range: 'bytes=10-19' } });
    expect(part.status).toBe(206);
    expect(Buffer.compare(new Uint8Array(await part.arrayBuffer()), bytes.subarray(10, 20))).toBe(0);
  });

  test('is for this object and this method alone', async () => {
    const store = open();
    await store.put(KEY, { kind: 'bytes', bytes: bytesOf('one') });
    await store.put('nar/other', { kind: 'bytes', bytes: bytesOf('other') });
    const url = await urlOf(store, 300);
    expect((await fetch(url, { method: 'HEAD' })).status).toBe(403);
    expect((await fetch(url, { method: 'DELETE' })).status).toBe(403);
    const other = new URL(url);
    other.pathname = other.pathname.replace(KEY, 'nar/other');
    expect((await fetch(other)).status).toBe(403);
    const longer = new URL(url);
    longer.searchParams.set('X-Amz-Expires', '3000');
    expect((await fetch(longer)).status).toBe(403);
  });

  test('of an object that is not there makes no request, and answers 404', async () => {
    const proxy = await startS3FaultProxy(server);
    onTestFinished(() => proxy.server.close());
    const url = await urlOf(open({ endpoint: proxy.server.endpoint }), 300);
    expect(proxy.requests).toEqual([]);
    expect((await fetch(url)).status).toBe(404);
  });

  test('works no longer than was said', async () => {
    let now = Date.now() - 290_000;
    const store = open({ now: () => now });
    await store.put(KEY, { kind: 'bytes', bytes: bytesOf('one') });
    expect((await fetch(await urlOf(store, 300))).status).toBe(200);
    now -= 20_000;
    const expired = await fetch(await urlOf(store, 300));
    expect(expired.status).toBe(403);
    expect(await expired.text()).toContain('ExpiredRequest');
  });

  test('is for the endpoint that clients reach', async () => {
    const url = await urlOf(open({ publicEndpoint: 'https://files.example.org', pathStyle: false }), 60);
    expect(url.host).toBe(`${server.bucket}.files.example.org`);
    expect(url.protocol).toBe('https:');
  });

  test('ends a minute before the session that signed it', async () => {
    const now = Date.now();
    const session = { ...server.credentials, sessionToken: 'token', expiration: new Date(now + 500_000) };
    const store = open({ credentials: async () => session, now: () => now });
    const url = await urlOf(store, 3600);
    expect(expiryOf(url)).toBe(440);
    expect(url.searchParams.get('X-Amz-Security-Token')).toBe('token');
    expect(expiryOf(await urlOf(store, 100))).toBe(100);
    expect(expiryOf(await urlOf(open({ credentials: session, now: () => now }), 3600))).toBe(440);
  });

  test('is refused where the session ends too soon, and is never for longer than a week', async () => {
    const session = {
      ...server.credentials,
      sessionToken: 'token',
      expiration: new Date(Date.now() + 60_000),
    };
    await expect(urlOf(open({ credentials: session }), 100)).rejects.toThrow(StorageError);
    expect(expiryOf(await urlOf(open(), 1e9))).toBe(604_800);
    await expect(urlOf(open(), 0)).rejects.toThrow(RangeError);
    await expect(urlOf(open(), Number.NaN)).rejects.toThrow(RangeError);
  });
});
