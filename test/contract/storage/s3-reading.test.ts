import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { StorageError } from '../../../src/storage/blob-store.ts';
import type { BlobStore } from '../../../src/storage/blob-store.ts';
import type { S3StoreOptions } from '../../../src/storage/s3/options.ts';
import { createS3Store } from '../../../src/storage/s3/s3.ts';
import { leave } from '../../../src/stream/byte-stream.ts';
import type { ByteStream } from '../../../src/stream/byte-stream.ts';
import { s3Error, startS3FaultProxy } from '../../support/s3-fault-proxy.ts';
import type { S3FaultProxy } from '../../support/s3-fault-proxy.ts';
import type { S3Server } from '../../support/s3-server.ts';
import { startS3Server } from '../../support/s3-server.ts';
import { s3StoreOptions } from '../../support/s3-store.ts';
import { bodyOf, bytesOf, found, noise } from './subject.ts';

const KEY = 'nar/one.nar';
const BODY = noise(4 * 1024 * 1024 + 321);

let server: S3Server;

beforeAll(async () => {
  server = await startS3Server();
});

afterAll(async () => {
  await server.close();
});

/** A store with one object, behind a proxy. */
async function open(
  options: Partial<S3StoreOptions> = {},
  body: Uint8Array = BODY,
): Promise<{ readonly store: BlobStore; readonly proxy: S3FaultProxy }> {
  const proxy = await startS3FaultProxy(server);
  const store = createS3Store({ ...s3StoreOptions(proxy.server), random: () => 0.1, ...options });
  onTestFinished(async () => {
    await store.close();
    await proxy.server.close();
  });
  await store.put(KEY, { kind: 'bytes', bytes: body });
  return { store, proxy };
}

async function streamFrom(store: BlobStore): Promise<ByteStream> {
  const { body } = await found(store, KEY);
  if (body.kind !== 'stream') throw new Error('Expected a stream');
  return body.stream;
}

async function expectBody(store: BlobStore, expected: Uint8Array = BODY): Promise<void> {
  expect(Buffer.compare((await bodyOf(store, KEY)) ?? bytesOf(''), expected)).toBe(0);
}

describe('a read', () => {
  test('is one request, whatever its range', async () => {
    const { store, proxy } = await open();
    const before = proxy.requests.length;
    await expectBody(store);
    await bodyOf(store, KEY, { range: { start: 5, end: 10 } });
    await bodyOf(store, KEY, { range: { suffix: 10 } });
    expect(await store.get('absent')).toBeNull();
    // As AWS gives it.
    const contentRange = { 'Content-Range': 'bytes */4711' };
    proxy.fail('GetObject', { ...s3Error(416, 'InvalidRange'), headers: contentRange });
    expect(await store.get(KEY, { range: { start: 5000 } })).toEqual({ kind: 'unsatisfiable', size: 4711 });
    expect(proxy.requests.slice(before).map(({ operation }) => operation)).toEqual(
      Array.from({ length: 5 }, () => 'GetObject'),
    );
  });

  test('asks for the size where a 416 does not say it', async () => {
    const { store, proxy } = await open();
    expect(await store.get(KEY, { range: { start: BODY.length } })).toEqual({
      kind: 'unsatisfiable',
      size: BODY.length,
    });
    expect(proxy.count('HeadObject')).toBe(1);
  });

  test.each([
    ['SlowDown', s3Error(503, 'SlowDown')],
    ['429', s3Error(429, 'TooManyRequests')],
    ['502 of a proxy', { kind: 'answer', status: 502, body: '<html>Bad Gateway</html>' } as const],
    ['a lost answer', { kind: 'lose-answer' } as const],
  ])('goes on after %s, for a bounded number of attempts', async (_, fault) => {
    const { store, proxy } = await open({ maxAttempts: 3 });
    proxy.fail('GetObject', fault, 1);
    await expectBody(store);
    expect(proxy.count('GetObject')).toBe(2);
    proxy.fail('HeadObject', fault, 3);
    await expect(store.head(KEY)).rejects.toThrow(StorageError);
    expect(proxy.count('HeadObject')).toBe(3);
  });

  test('does not read ahead of a client that is slow', async () => {
    const { store, proxy } = await open({}, noise(48 * 1024 * 1024));
    const iterator = (await streamFrom(store))[Symbol.asyncIterator]();
    await iterator.next();
    const sent = (): number => proxy.requests.at(-1)?.bytesSent ?? 0;
    let before = -1;
    // Until the buffers of the connection are full.
    await expect.poll(() => before === (before = sent()), { interval: 200, timeout: 10_000 }).toBe(true);
    expect(sent()).toBeLessThan(24 * 1024 * 1024);
    await iterator.return?.();
  });
});

describe('a body whose connection fails', () => {
  test.each([
    ['in the middle', [1_000_000]],
    ['before its first byte', [0]],
    ['several times', [100_000, 1, 2_000_000, 500_000]],
  ])('%s is taken up where it ended', async (_, places) => {
    const { store, proxy } = await open();
    for (const at of places) proxy.fail('GetObject', { kind: 'cut-answer', at });
    await expectBody(store);
    const gets = proxy.requests.filter(({ operation }) => operation === 'GetObject');
    expect(gets).toHaveLength(places.length + 1);
    expect(gets[0]?.headers['if-match']).toBeUndefined();
    for (const { headers } of gets.slice(1)) {
      expect(headers.range).toMatch(/^bytes=\d+-4194624$/);
      expect(headers['if-match']).toMatch(/^"[0-9a-f]+"$/);
    }
  });

  test('in a small body and in a range is taken up too', async () => {
    const { store, proxy } = await open();
    proxy.fail('GetObject', { kind: 'cut-answer', at: 50_000 });
    const range = { start: 1_000_000, end: 1_099_999 };
    const body = await bodyOf(store, KEY, { range });
    expect(Buffer.compare(body ?? bytesOf(''), BODY.subarray(1_000_000, 1_100_000))).toBe(0);
  });

  test('every time is an error after a bounded number of times, never a short body', async () => {
    const { store, proxy } = await open();
    proxy.fail('GetObject', { kind: 'cut-answer', at: 1000 }, 100);
    await expect(bodyOf(store, KEY)).rejects.toThrow(
      /^Cannot read "nar\/one.nar": its body broke off at byte 6000 of 4194625: /,
    );
    expect(proxy.count('GetObject')).toBe(6);
  });

  test('while nobody reads it is taken up too', async () => {
    const { store, proxy } = await open();
    proxy.fail('GetObject', { kind: 'cut-answer', at: 300_000 });
    const stream = await streamFrom(store);
    await new Promise((resolve) => setTimeout(resolve, 200));
    const chunks: Uint8Array[] = [];
    for await (const chunk of stream) chunks.push(chunk);
    expect(Buffer.concat(chunks).equals(BODY)).toBe(true);
    expect(proxy.count('GetObject')).toBe(2);
  });

  test('by standing still is broken off and taken up', async () => {
    const { store, proxy } = await open({ idleTimeoutMs: 200 });
    proxy.fail('GetObject', { kind: 'stall-answer', at: 1_000_000 });
    await expectBody(store);
    expect(proxy.count('GetObject')).toBe(2);
  });

  test('and whose object was replaced or removed meanwhile is an error', async () => {
    const { store, proxy } = await open();
    for (const change of [
      () => store.put(KEY, { kind: 'bytes', bytes: noise(BODY.length) }),
      () => store.delete([KEY]),
    ]) {
      proxy.fail('GetObject', { kind: 'cut-answer', at: 1_000_000 });
      const stream = await streamFrom(store);
      await change();
      const read = async (): Promise<void> => {
        for await (const chunk of stream) expect(chunk.length).toBeGreaterThan(0);
      };
      await expect(read()).rejects.toThrow(
        /broke off at byte \d+ of 4194625: it was removed or replaced meanwhile/,
      );
    }
  });

  test('is an error where there is no ETag to know the object again', async () => {
    const { store, proxy } = await open();
    proxy.fail('GetObject', { kind: 'cut-answer', at: 1000, without: 'etag' });
    await expect(bodyOf(store, KEY)).rejects.toThrow(/broke off at byte 1000/);
    expect(proxy.count('GetObject')).toBe(1);
  });

  test('ends at once where the caller aborts while it waits', async () => {
    const { store, proxy } = await open();
    proxy.fail('GetObject', { kind: 'stall-answer', at: 1_000_000 });
    const controller = new AbortController();
    const reason = new Error('the client left');
    const { body } = await found(store, KEY, { signal: controller.signal });
    if (body.kind !== 'stream') throw new Error('Expected a stream');
    setTimeout(() => {
      controller.abort(reason);
    }, 50);
    const read = async (): Promise<void> => {
      for await (const chunk of body.stream) expect(chunk.length).toBeGreaterThan(0);
    };
    await expect(read()).rejects.toBe(reason);
    expect(proxy.count('GetObject')).toBe(1);
  });

  test('more bodies than any pool has connections can be open at once', async () => {
    const { store } = await open();
    const streams = await Promise.all(Array.from({ length: 60 }, () => streamFrom(store)));
    await expectBody(store);
    await Promise.all(streams.map((stream) => leave(stream)));
  });
});

describe('what is no miss', () => {
  test('403, with the reason that it may be one', async () => {
    const { store, proxy } = await open();
    proxy.fail('GetObject', s3Error(403, 'AccessDenied', 'Access Denied'));
    await expect(store.get('absent')).rejects.toThrow(
      'Cannot read "absent": S3 gave AccessDenied, status 403: Access Denied; S3 says so of a missing key too where s3:ListBucket is not permitted',
    );
    proxy.fail('HeadObject', { kind: 'answer', status: 403 });
    await expect(store.head('absent')).rejects.toThrow(/status 403/);
  });

  test('404 of something that is no S3', async () => {
    const { store, proxy } = await open();
    proxy.fail('GetObject', { kind: 'answer', status: 404, body: '<html>not found</html>' });
    await expect(store.get(KEY)).rejects.toThrow(StorageError);
  });

  test('a wrong bucket, wrong credentials, a server that is gone: a ping says it, and so does everything', async () => {
    const options = { ...s3StoreOptions(server), maxAttempts: 1 };
    const { credentials } = server;
    const stores: readonly [BlobStore, RegExp][] = [
      [createS3Store({ ...options, bucket: 'no-such-bucket' }), /NoSuchBucket, status 404/],
      [
        createS3Store({ ...options, credentials: { ...credentials, secretAccessKey: 'wrong' } }),
        /SignatureDoesNotMatch, status 403/,
      ],
      [
        createS3Store({ ...options, credentials: { ...credentials, accessKeyId: 'wrong' } }),
        /status (401|403)/,
      ],
      [createS3Store({ ...options, endpoint: 'http://127.0.0.1:9' }), /ECONNREFUSED/],
    ];
    for (const [store, text] of stores) {
      await expect(store.ping()).rejects.toThrow(text);
      await expect(store.get(KEY)).rejects.toThrow(text);
      await expect(store.head(KEY)).rejects.toThrow(StorageError);
      await expect(store.list('')[Symbol.asyncIterator]().next()).rejects.toThrow(StorageError);
      await expect(store.put(KEY, { kind: 'bytes', bytes: bytesOf('x') })).rejects.toThrow(StorageError);
      await expect(store.delete([KEY])).rejects.toThrow(StorageError);
      await store.close();
    }
  });

  test('errors hold no secret, in their causes neither', async () => {
    const secret = 'very-secret-key';
    const options = s3StoreOptions(server);
    const store = createS3Store({
      ...options,
      credentials: { accessKeyId: server.credentials.accessKeyId, secretAccessKey: secret },
    });
    const error: unknown = await store.get(KEY).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(StorageError);
    const text = JSON.stringify(error, Object.getOwnPropertyNames(error));
    expect(text).toContain('SignatureDoesNotMatch');
    expect(text).not.toContain(secret);
    expect(text).not.toContain(server.credentials.accessKeyId);
    expect(text).not.toMatch(/AWS4-HMAC|x-amz-/i);
    expect(store.description).toBe(
      `s3://${server.bucket}/${options.prefix} at ${new URL(server.endpoint).host}`,
    );
    await store.close();
  });
});
