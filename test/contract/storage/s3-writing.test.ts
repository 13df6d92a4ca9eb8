import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { StorageError } from '../../../src/storage/blob-store.ts';
import type { BlobStore } from '../../../src/storage/blob-store.ts';
import type { S3StoreOptions } from '../../../src/storage/s3/options.ts';
import { createS3Store } from '../../../src/storage/s3/s3.ts';
import type { ByteStream } from '../../../src/stream/byte-stream.ts';
import { s3Error, startS3FaultProxy } from '../../support/s3-fault-proxy.ts';
import type { S3FaultProxy } from '../../support/s3-fault-proxy.ts';
import type { S3Server } from '../../support/s3-server.ts';
import { startS3Server } from '../../support/s3-server.ts';
import { s3StoreOptions } from '../../support/s3-store.ts';
import { exists, fileOf, reusing, watched } from './sources.ts';
import { bodyOf, bytesOf, keysOf, noise, textOf } from './subject.ts';

const MIB = 1024 * 1024;
const PART = 5 * MIB;
const KEY = 'nar/one.nar';
const SMALL = { kind: 'bytes', bytes: bytesOf('small') } as const;

let server: S3Server;

beforeAll(async () => {
  server = await startS3Server();
});

afterAll(async () => {
  await server.close();
});

interface Subject {
  readonly store: BlobStore;
  readonly proxy: S3FaultProxy;
  /** The uploads that are left at the server. */
  left(): Promise<readonly string[]>;
}

async function open(options: Partial<S3StoreOptions> = {}): Promise<Subject> {
  const proxy = await startS3FaultProxy(server);
  const defaults = s3StoreOptions(proxy.server);
  const store = createS3Store({ ...defaults, partSize: PART, concurrency: 2, random: () => 0.1, ...options });
  onTestFinished(async () => {
    await store.close();
    await proxy.server.close();
  });
  return { store, proxy, left: () => server.openUploads(`${defaults.prefix}/`) };
}

/** A body of three parts and a bit, in pieces that no part is a multiple of. */
const BODY = noise(3 * PART + 12_345);

async function* pieces(bytes: Uint8Array = BODY, size: number = 700_001): ByteStream {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

function stream(): { readonly kind: 'stream'; readonly stream: ByteStream } {
  return { kind: 'stream', stream: pieces() };
}

async function expectWhole(store: BlobStore): Promise<void> {
  expect(BODY.length).toBe((await store.head(KEY))?.size);
  expect(Buffer.compare((await bodyOf(store, KEY)) ?? bytesOf(''), BODY)).toBe(0);
}

async function expectNothing({ store, left }: Subject): Promise<void> {
  expect(await store.head(KEY)).toBeNull();
  expect(await left()).toEqual([]);
}

describe('a put in parts', () => {
  test('the parts are equal but for the last, and the object is whole', async () => {
    const { store, proxy, left } = await open();
    expect(await store.put(KEY, stream(), { contentType: 'application/x-nix-nar' })).toEqual({
      written: true,
      size: BODY.length,
    });
    const lengths = proxy.requests
      .filter(({ operation }) => operation === 'UploadPart')
      .map(({ headers }) => Number(headers['content-length']));
    expect(lengths.toSorted((a, b) => b - a)).toEqual([PART, PART, PART, 12_345]);
    await expectWhole(store);
    expect(await left()).toEqual([]);
  });

  test.each([
    ['one part exactly', PART, 1],
    ['one byte more than a part', PART + 1, 2],
    ['two parts exactly', 2 * PART, 2],
  ])('a body of %s', async (_, size, parts) => {
    const { store, proxy } = await open();
    const bytes = BODY.subarray(0, size);
    for (const known of [true, false]) {
      const key = `nar/${known}`;
      await store.put(key, { kind: 'stream', stream: pieces(bytes), ...(known ? { size } : {}) });
      expect(Buffer.compare((await bodyOf(store, key)) ?? bytesOf(''), bytes)).toBe(0);
    }
    expect(proxy.count('UploadPart')).toBe(parts === 1 ? 0 : 2 * parts);
    expect(proxy.count('PutObject')).toBe(parts === 1 ? 2 : 0);
  });

  test('a source that uses its array again, bytes, and a file larger than a part are stored whole', async () => {
    const { store } = await open();
    const half = BODY.slice(0, 4 * MIB);
    await store.put('stream', { kind: 'stream', stream: reusing(half.slice()) });
    const twice = Buffer.concat([half, half]);
    expect(twice.equals((await bodyOf(store, 'stream')) ?? bytesOf(''))).toBe(true);
    await store.put('bytes', { kind: 'bytes', bytes: BODY });
    expect(Buffer.compare((await bodyOf(store, 'bytes')) ?? bytesOf(''), BODY)).toBe(0);
    const { path, bytes } = await fileOf(PART + 100_000);
    await store.put('file', { kind: 'file', path, size: bytes.length });
    expect(Buffer.compare((await bodyOf(store, 'file')) ?? bytesOf(''), bytes)).toBe(0);
    expect(await exists(path)).toBe(false);
  });

  test('nothing of the object is there before all of it is', async () => {
    const { store } = await open();
    const source = async function* (): ByteStream {
      for await (const piece of pieces()) {
        yield piece;
        expect(await store.head(KEY)).toBeNull();
      }
      expect(await keysOf(store, '')).toEqual([]);
    };
    await store.put(KEY, { kind: 'stream', stream: source() });
    await expectWhole(store);
  });

  test('holds no more than its window, however slow the server is', async () => {
    const { store, proxy } = await open();
    const gate = Promise.withResolvers<void>();
    proxy.fail('UploadPart', { kind: 'hold', until: gate.promise }, 100);
    let given = 0;
    const chunk = noise(100_000);
    const source = async function* (): ByteStream {
      for (; given < 100 * MIB; given += chunk.length) yield chunk;
    };
    const put = store.put(KEY, { kind: 'stream', stream: source() });
    await expect.poll(() => proxy.count('UploadPart')).toBe(2);
    // As far as it goes: two parts under way, a third one full.
    await expect.poll(() => given, { timeout: 10_000 }).toBeGreaterThanOrEqual(3 * PART - chunk.length);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(store.putMemory).toBe(3 * PART);
    expect(given).toBeLessThanOrEqual(3 * PART + chunk.length);
    expect(proxy.count('UploadPart')).toBe(2);
    gate.resolve();
    expect((await put).size).toBeGreaterThanOrEqual(100 * MIB);
  });

  test('by default the window is 32 MiB', () => {
    const { partSize: _, ...options } = s3StoreOptions(server);
    expect(createS3Store(options).putMemory).toBe(32 * MIB);
    expect(createS3Store({ ...options, partSize: PART, concurrency: 2 }).putMemory).toBeLessThanOrEqual(
      16 * MIB,
    );
  });

  test('a body too long for its part size is refused before anything is sent', async () => {
    const { store, proxy } = await open();
    const source = watched(pieces());
    const size = 10_000 * PART + 1;
    await expect(store.put(KEY, { kind: 'stream', stream: source.stream, size })).rejects.toThrow(
      /more than 10000 parts of 5242880 bytes/,
    );
    await expect.poll(() => source.over).toBe(true);
    expect(proxy.requests).toEqual([]);
  });

  test.each([1, 2, 3])('a source that throws in part %i leaves nothing', async (part) => {
    const subject = await open();
    const fault = new Error('the hash was wrong');
    const broken = async function* (): ByteStream {
      yield* pieces(BODY.subarray(0, part * PART - 1000));
      throw fault;
    };
    await expect(subject.store.put(KEY, { kind: 'stream', stream: broken() })).rejects.toBe(fault);
    expect(subject.proxy.count('CompleteMultipartUpload')).toBe(0);
    await expectNothing(subject);
  });

  test('a source that throws after its last byte leaves nothing', async () => {
    const subject = await open();
    const fault = new Error('the hash was wrong');
    const broken = async function* (): ByteStream {
      yield* pieces();
      throw fault;
    };
    await expect(subject.store.put(KEY, { kind: 'stream', stream: broken() })).rejects.toBe(fault);
    await expectNothing(subject);
  });

  test('an abort in the middle, while the source stands still, leaves nothing', async () => {
    const subject = await open();
    const controller = new AbortController();
    const reason = new Error('shutting down');
    const stuck = async function* (): ByteStream {
      yield* pieces(BODY.subarray(0, 2 * PART + 1000));
      setTimeout(() => {
        controller.abort(reason);
      }, 50);
      await new Promise(() => undefined);
    };
    const put = subject.store.put(KEY, { kind: 'stream', stream: stuck() }, { signal: controller.signal });
    await expect(put).rejects.toBe(reason);
    await expectNothing(subject);
  });

  test('a part that cannot be stored ends the put, also while the source stands still', async () => {
    const subject = await open();
    subject.proxy.fail('UploadPart', s3Error(403, 'AccessDenied'));
    const source = watched(
      (async function* (): ByteStream {
        yield* pieces(BODY.subarray(0, 2 * PART));
        await new Promise(() => undefined);
      })(),
    );
    await expect(subject.store.put(KEY, { kind: 'stream', stream: source.stream })).rejects.toThrow(
      /^Cannot store "nar\/one.nar": S3 gave AccessDenied, status 403/,
    );
    await expectNothing(subject);
  });
});

describe('a put that meets faults', () => {
  test.each([
    ['SlowDown', s3Error(503, 'SlowDown')],
    ['an internal error', s3Error(500, 'InternalError')],
    ['a connection that is cut in the middle of a part', { kind: 'cut-request', at: 1_000_000 } as const],
    ['a lost answer', { kind: 'lose-answer' } as const],
  ])('goes on after %s', async (_, fault) => {
    const { store, proxy, left } = await open();
    proxy.fail('UploadPart', fault, 2);
    await store.put(KEY, stream());
    await expectWhole(store);
    expect(proxy.count('UploadPart')).toBe(6);
    expect(await left()).toEqual([]);
  });

  test('gives up after a bounded number of attempts, and leaves nothing', async () => {
    const subject = await open({ maxAttempts: 3, concurrency: 1 });
    subject.proxy.fail('UploadPart', s3Error(500, 'InternalError'), 100);
    await expect(subject.store.put(KEY, stream())).rejects.toThrow(
      'Cannot store "nar/one.nar": S3 gave InternalError, status 500',
    );
    expect(subject.proxy.count('UploadPart')).toBe(3);
    await expectNothing(subject);
  });

  test('goes on where the answer of CompleteMultipartUpload is lost: the object says that it is whole', async () => {
    const { store, proxy, left } = await open();
    proxy.fail('CompleteMultipartUpload', { kind: 'lose-answer' });
    expect(await store.put(KEY, stream())).toEqual({ written: true, size: BODY.length });
    expect(proxy.count('CompleteMultipartUpload')).toBe(2);
    await expectWhole(store);
    expect(await left()).toEqual([]);
  });

  test('the lost answer of CompleteMultipartUpload is no success where another object is there', async () => {
    const subject = await open();
    await subject.store.put(KEY, SMALL);
    subject.proxy.fail('CompleteMultipartUpload', s3Error(404, 'NoSuchUpload'));
    await expect(subject.store.put(KEY, stream())).rejects.toThrow(/S3 gave NoSuchUpload/);
    expect(await textOf(subject.store, KEY)).toBe('small');
    expect(await subject.left()).toEqual([]);
  });

  test('an error in the body of a 200 is one, and is tried again', async () => {
    const { store, proxy } = await open();
    proxy.fail('CompleteMultipartUpload', s3Error(200, 'InternalError'));
    await store.put(KEY, stream());
    expect(proxy.count('CompleteMultipartUpload')).toBe(2);
    await expectWhole(store);
  });

  test('a 200 with an error every time is an error, and leaves nothing', async () => {
    const subject = await open({ maxAttempts: 2 });
    subject.proxy.fail('CompleteMultipartUpload', s3Error(200, 'InternalError'), 100);
    await expect(subject.store.put(KEY, stream())).rejects.toThrow(StorageError);
    expect(subject.proxy.count('CompleteMultipartUpload')).toBe(2);
    await expectNothing(subject);
  });

  test('a refused abort is asked for again', async () => {
    const subject = await open();
    subject.proxy.fail('UploadPart', s3Error(403, 'AccessDenied'));
    subject.proxy.fail('AbortMultipartUpload', s3Error(503, 'SlowDown'));
    await expect(subject.store.put(KEY, stream())).rejects.toThrow(/AccessDenied/);
    await expectNothing(subject);
  });

  test('a server that answers no more ends the put in its time', async () => {
    const subject = await open({ maxAttempts: 2, requestTimeoutMs: 200 });
    const never = new Promise(() => undefined);
    subject.proxy.fail('PutObject', { kind: 'hold', until: never }, 10);
    const begun = performance.now();
    await expect(subject.store.put(KEY, SMALL)).rejects.toThrow(/S3 gave TimeoutError/);
    expect(performance.now() - begun).toBeLessThan(5_000);
    expect(subject.proxy.count('PutObject')).toBe(2);
    await expectNothing(subject);
  });

  test('a file that could not be stored stays where it is', async () => {
    const subject = await open();
    const { path, bytes } = await fileOf(1000);
    subject.proxy.fail('PutObject', s3Error(403, 'AccessDenied'));
    await expect(subject.store.put(KEY, { kind: 'file', path, size: bytes.length })).rejects.toThrow(
      /AccessDenied/,
    );
    expect(await exists(path)).toBe(true);
    await expectNothing(subject);
  });
});

describe('a put if absent', () => {
  const ifAbsent = { ifAbsent: true };

  test('is ours where the server refuses our second attempt because of the first, whose answer was lost', async () => {
    const { store, proxy } = await open();
    proxy.fail('PutObject', { kind: 'lose-answer' });
    expect(await store.put(KEY, SMALL, ifAbsent)).toEqual({ written: true, size: 5 });
    expect(proxy.count('PutObject')).toBe(2);
    expect(await store.put(KEY, SMALL, ifAbsent)).toEqual({ written: false, size: 5 });
  });

  test('in parts: stays away from an object that is there, and from one that comes meanwhile', async () => {
    const { store, proxy, left } = await open();
    await store.put(KEY, SMALL);
    expect(await store.put(KEY, stream(), ifAbsent)).toEqual({ written: false, size: 5 });
    expect(proxy.count('CompleteMultipartUpload')).toBe(0);
    await store.delete([KEY]);
    // As a server that has the condition here too.
    proxy.fail('CompleteMultipartUpload', s3Error(412, 'PreconditionFailed'));
    proxy.fail('HeadObject', s3Error(404, 'NotFound'));
    await store.put(KEY, SMALL);
    expect(await store.put(KEY, stream(), ifAbsent)).toEqual({ written: false, size: 5 });
    const complete = proxy.requests.find(({ operation }) => operation === 'CompleteMultipartUpload');
    expect(complete?.headers['if-none-match']).toBe('*');
    expect(await textOf(store, KEY)).toBe('small');
    expect(await left()).toEqual([]);
  });

  test('in parts: is ours where the answer of CompleteMultipartUpload was lost', async () => {
    const { store, proxy } = await open();
    proxy.fail('CompleteMultipartUpload', { kind: 'lose-answer' });
    proxy.fail('CompleteMultipartUpload', s3Error(412, 'PreconditionFailed'));
    expect(await store.put(KEY, stream(), ifAbsent)).toEqual({ written: true, size: BODY.length });
    await expectWhole(store);
  });

  test('is tried again where the object that was in the way is gone', async () => {
    const { store, proxy } = await open();
    proxy.fail('PutObject', s3Error(409, 'ConditionalRequestConflict'));
    proxy.fail('PutObject', s3Error(412, 'PreconditionFailed'));
    expect(await store.put(KEY, SMALL, ifAbsent)).toEqual({ written: true, size: 5 });
    expect(proxy.count('PutObject')).toBe(3);
  });

  test('looks first where the server does not know conditions, and asks it once', async () => {
    const { store, proxy } = await open();
    proxy.fail('PutObject', s3Error(501, 'NotImplemented'));
    expect(await store.put(KEY, SMALL, ifAbsent)).toEqual({ written: true, size: 5 });
    expect(await store.put(KEY, SMALL, ifAbsent)).toEqual({ written: false, size: 5 });
    expect(await store.put('other', SMALL, ifAbsent)).toEqual({ written: true, size: 5 });
    const conditions = proxy.requests.map(({ headers }) => headers['if-none-match'] ?? '').join('');
    expect(conditions).toBe('*');
  });

  test('sends no condition where it is told that the server has none', async () => {
    const { store, proxy } = await open({ conditionalWrites: false });
    expect(await store.put(KEY, SMALL, ifAbsent)).toEqual({ written: true, size: 5 });
    expect(await store.put(KEY, stream(), ifAbsent)).toEqual({ written: false, size: 5 });
    expect(proxy.requests.map(({ headers }) => headers['if-none-match'] ?? '').join('')).toBe('');
  });
});

describe('deleting', () => {
  test('an object that the server did not delete is an error that names it', async () => {
    const { store, proxy } = await open();
    const body =
      '<DeleteResult><Error><Key>x/nar/one.nar</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>';
    proxy.fail('DeleteObjects', { kind: 'answer', status: 200, body });
    await expect(store.delete([KEY])).rejects.toThrow(
      'Cannot delete "x/nar/one.nar": S3 gave AccessDenied: no (and 0 more)',
    );
  });

  test('a thousand keys are one request, and SlowDown is waited for', async () => {
    const { store, proxy } = await open();
    proxy.fail('DeleteObjects', s3Error(500, 'InternalError'));
    await store.delete(Array.from({ length: 2001 }, (_, n) => `nar/${n}`));
    expect(proxy.count('DeleteObjects')).toBe(1 + 3);
  });
});

describe('a sweep', () => {
  test('does nothing where the server cannot list uploads', async () => {
    const { store, proxy } = await open();
    expect(await store.sweep(Date.now() + 1_000_000)).toEqual({ removed: 0, freed: 0 });
    expect(proxy.count('ListMultipartUploads')).toBe(1);
  });

  test('goes through all pages, and leaves what is too young or gone already', async () => {
    const { store, proxy } = await open();
    const upload = (id: string, initiated: string): string =>
      `<Upload><Key>k-${id}</Key><UploadId>${id}</UploadId><Initiated>${initiated}</Initiated></Upload>`;
    const page = (body: string): { kind: 'answer'; status: number; body: string } => ({
      kind: 'answer',
      status: 200,
      body,
    });
    const old = '2026-01-01T00:00:00.000Z';
    proxy.fail(
      'ListMultipartUploads',
      page(
        `<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k-2</NextKeyMarker><NextUploadIdMarker>2</NextUploadIdMarker>${upload('1', old)}${upload('2', '2026-01-01T00:00:10.000Z')}</ListMultipartUploadsResult>`,
      ),
    );
    proxy.fail(
      'ListMultipartUploads',
      page(
        `<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>${upload('3', old)}</ListMultipartUploadsResult>`,
      ),
    );
    const part = (number: number): string =>
      `<Part><PartNumber>${number}</PartNumber><Size>1000</Size></Part>`;
    proxy.fail(
      'ListParts',
      page(
        `<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>2</NextPartNumberMarker>${part(1)}${part(2)}</ListPartsResult>`,
      ),
    );
    proxy.fail(
      'ListParts',
      page(`<ListPartsResult><IsTruncated>false</IsTruncated>${part(3)}</ListPartsResult>`),
    );
    proxy.fail('AbortMultipartUpload', { kind: 'answer', status: 204 });
    proxy.fail('ListParts', s3Error(404, 'NoSuchUpload'));
    proxy.fail('AbortMultipartUpload', s3Error(404, 'NoSuchUpload'));
    const result = await store.sweep(Date.parse('2026-01-01T00:00:05.000Z'));
    expect(result).toEqual({ removed: 1, freed: 3000 });
    expect(
      proxy.requests.map(({ operation, key, query }) => [operation, key, query.get('key-marker')]),
    ).toEqual([
      ['ListMultipartUploads', '', null],
      ['ListParts', 'k-1', null],
      ['ListParts', 'k-1', null],
      ['AbortMultipartUpload', 'k-1', null],
      ['ListMultipartUploads', '', 'k-2'],
      ['ListParts', 'k-3', null],
      ['AbortMultipartUpload', 'k-3', null],
    ]);
  });
});

test('a store can be the whole bucket, with the credentials of the environment', async () => {
  const { prefix, credentials: _, ...options } = s3StoreOptions(server);
  vi.stubEnv('AWS_ACCESS_KEY_ID', server.credentials.accessKeyId);
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', server.credentials.secretAccessKey);
  onTestFinished(() => {
    vi.unstubAllEnvs();
  });
  const store = createS3Store(options);
  await store.ping();
  await store.put(`${prefix}/nar/a`, SMALL);
  expect(await textOf(store, `${prefix}/nar/a`)).toBe('small');
  expect(await keysOf(store, `${prefix}/`)).toEqual([`${prefix}/nar/a`]);
  expect((await keysOf(store, '')).includes(`${prefix}/nar/a`)).toBe(true);
  await store.sweep(Date.now());
  await store.delete([`${prefix}/nar/a`]);
  expect(await store.head(`${prefix}/nar/a`)).toBeNull();
  await store.close();
});

test.each([
  [{ partSize: 5 * MIB - 1 }, /part size/],
  [{ partSize: 5 * MIB + 0.5 }, /part size/],
  [{ concurrency: 0 }, /concurrency/],
  [{ maxAttempts: 0 }, /attempts/],
  [{ prefix: '../other' }, /Invalid storage key/],
  [{ prefix: 'a/' }, /Invalid storage key/],
])('the options %j are refused', (options, text) => {
  expect(() => createS3Store({ bucket: 'x', ...options })).toThrow(text);
});

test('objects whose names are no keys are not listed', async () => {
  const proxy = await startS3FaultProxy(server);
  const options = s3StoreOptions(proxy.server);
  const store = createS3Store({ ...options, prefix: `${options.prefix}/inner` });
  onTestFinished(() => proxy.server.close());
  await store.put('nar/a', SMALL);
  const contents = ['.hidden', 'a b', 'nar/', 'nar/a', ''].map(
    (name) =>
      `<Contents><Key>${options.prefix}/inner/${name}</Key><Size>1</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>`,
  );
  const body = `<ListBucketResult><IsTruncated>false</IsTruncated>${contents.join('')}</ListBucketResult>`;
  proxy.fail('ListObjectsV2', { kind: 'answer', status: 200, body });
  expect(await keysOf(store, '')).toEqual(['nar/a']);
});
