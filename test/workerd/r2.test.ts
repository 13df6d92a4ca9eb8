import { env } from 'cloudflare:workers';
import { describe, expect, it } from 'vitest';
import { StorageError } from '../../src/storage/blob-store.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { createR2Store } from '../../src/storage/r2.ts';
import type { R2StoreOptions } from '../../src/storage/r2.ts';
import { streamOf } from '../../src/stream/byte-stream.ts';
import type { ByteStream } from '../../src/stream/byte-stream.ts';
import { watched } from '../contract/storage/sources.ts';
import { bodyOf, bytesOf, noise, textOf } from '../contract/storage/subject.ts';
import { r2Error, watchBucket } from './r2-bucket.ts';
import type { WatchedBucket } from './r2-bucket.ts';

const MIB = 1024 * 1024;
const KEY = 'nar/one.nar';
let stores = 0;

interface Subject {
  readonly store: BlobStore;
  readonly bucket: WatchedBucket;
  /** Milliseconds slept between attempts. */
  readonly pauses: readonly number[];
}

function open(options: Partial<R2StoreOptions> = {}): Subject {
  const bucket = watchBucket(env.BUCKET);
  const pauses: number[] = [];
  const store = createR2Store({
    bucket,
    description: 'r2:BUCKET',
    prefix: `test-${stores++}/`,
    partSize: 5 * MIB,
    sleep: async (milliseconds) => {
      pauses.push(milliseconds);
    },
    ...options,
  });
  return { store, bucket, pauses };
}

/** The bytes in chunks that no part is a multiple of. */
async function* chunked(bytes: Uint8Array): ByteStream {
  for (let at = 0; at < bytes.length; at += 70_001) yield bytes.subarray(at, at + 70_001);
}

function isSame(a: Uint8Array | null, b: Uint8Array): boolean {
  return a?.length === b.length && a.every((byte, at) => byte === b[at]);
}

describe('A put into R2', () => {
  it.each([
    ['of bytes', 100, 'bytes', ['put']],
    ['of no bytes', 0, 'known', ['put']],
    ['that fits into one part', 5 * MIB, 'known', ['put']],
    ['that fits into one part, of unknown size', 5 * MIB - 1, 'unknown', ['put']],
    ['of one part, of unknown size', 5 * MIB, 'unknown', ['create', 'part 1', 'complete']],
    ['of several parts', 12 * MIB, 'known', ['create', 'part 1', 'part 2', 'part 3', 'complete']],
    [
      'of several parts, of unknown size',
      12 * MIB,
      'unknown',
      ['create', 'part 1', 'part 2', 'part 3', 'complete'],
    ],
    ['of whole parts', 10 * MIB, 'unknown', ['create', 'part 1', 'part 2', 'complete']],
  ])('%s takes no more operations than it must', async (_, size, kind, operations) => {
    const { store, bucket } = open();
    const bytes = noise(size);
    const result = await store.put(
      KEY,
      kind === 'bytes'
        ? { kind, bytes }
        : { kind: 'stream', stream: chunked(bytes), ...(kind === 'known' ? { size } : {}) },
    );
    expect(result).toEqual({ written: true, size });
    expect(bucket.operations).toEqual(operations);
    expect(isSame(await bodyOf(store, KEY), bytes)).toBe(true);
  });

  it('keeps the content type, of both kinds', async () => {
    const prefix = `test-${stores++}/`;
    const { store } = open({ prefix });
    const options = { contentType: 'application/x-nix-nar' };
    await store.put('small', { kind: 'bytes', bytes: noise(10) }, options);
    await store.put('large', { kind: 'stream', stream: chunked(noise(6 * MIB)) }, options);
    for (const key of ['small', 'large']) {
      expect((await env.BUCKET.head(prefix + key))?.httpMetadata?.contentType).toBe('application/x-nix-nar');
    }
  });

  it.each(['known', 'unknown'])(
    'whose source fails after its last byte stores nothing (%s size)',
    async (kind) => {
      for (const size of [1000, 6 * MIB]) {
        const { store, bucket } = open();
        const fault = new Error('the hash is another');
        const lying = async function* (): ByteStream {
          yield* chunked(noise(size));
          throw fault;
        };
        const source = { kind: 'stream', stream: lying(), ...(kind === 'known' ? { size } : {}) } as const;
        await expect(store.put(KEY, source)).rejects.toBe(fault);
        expect(await store.head(KEY)).toBeNull();
        expect(bucket.operations).not.toContain('complete');
        if (bucket.operations.includes('create')) expect(bucket.operations).toContain('abort');
      }
    },
  );

  it.each(['put', 'create', 'part 1', 'part 2', 'complete'])(
    'that R2 refuses at "%s" is a StorageError, leaves nothing and leaves the source',
    async (step) => {
      const { store, bucket } = open();
      bucket.before = (operation) => {
        if (operation === step) throw r2Error(10_003, 'Access Denied');
      };
      const size = step === 'put' ? 1000 : 12 * MIB;
      const source = watched(chunked(noise(size)));
      const attempt = store.put(KEY, { kind: 'stream', stream: source.stream, size });
      await expect(attempt).rejects.toThrow(
        new StorageError(`Cannot store "${KEY}": operation: Access Denied (10003)`),
      );
      await expect.poll(() => source.over).toBe(true);
      if (step !== 'put' && step !== 'create') expect(bucket.operations.at(-1)).toBe('abort');
      bucket.before = () => undefined;
      expect(await store.head(KEY)).toBeNull();
    },
  );

  it('whose upload fails while the source stands still ends', async () => {
    const { store, bucket } = open();
    bucket.before = async (operation) => {
      if (operation === 'part 1') throw r2Error(10_003, 'Access Denied');
    };
    const stuck = async function* (): ByteStream {
      yield noise(1000);
      await new Promise(() => undefined);
    };
    const attempt = store.put(KEY, { kind: 'stream', stream: stuck(), size: 6 * MIB });
    await expect(attempt).rejects.toThrow('Access Denied');
  });

  it('that is aborted between its parts leaves nothing', async () => {
    const { store, bucket } = open();
    const controller = new AbortController();
    const reason = new Error('shutting down');
    bucket.before = (operation) => {
      if (operation === 'part 2') controller.abort(reason);
    };
    const source = { kind: 'stream', stream: chunked(noise(12 * MIB)), size: 12 * MIB } as const;
    await expect(store.put(KEY, source, { signal: controller.signal })).rejects.toBe(reason);
    expect(bucket.operations.at(-1)).toBe('abort');
    expect(await store.head(KEY)).toBeNull();
  });

  it('of unknown size holds no more than it says', async () => {
    const { store, bucket } = open();
    let given = 0;
    const held: number[] = [];
    bucket.before = (operation) => {
      // Parts go out one after the other, so all before this one are gone.
      if (operation.startsWith('part')) held.push(given - (Number(operation.slice(5)) - 1) * 5 * MIB);
    };
    const piece = noise(65_536);
    const counted = async function* (): ByteStream {
      for (; given < 20 * MIB; given += piece.length) yield piece;
    };
    await store.put(KEY, { kind: 'stream', stream: counted() });
    expect(given).toBe(20 * MIB);
    expect(store.putMemory).toBe(5 * MIB);
    expect(held).toHaveLength(4);
    for (const bytes of held) expect(bytes).toBeLessThanOrEqual(5 * MIB);
  });
});

describe('A large put into R2 if absent', () => {
  const source = (): ByteStream => chunked(noise(6 * MIB));

  it('uploads nothing where an object is there', async () => {
    const { store, bucket } = open();
    await store.put(KEY, { kind: 'bytes', bytes: bytesOf('first') });
    bucket.operations.length = 0;
    const stream = watched(source());
    const result = await store.put(
      KEY,
      { kind: 'stream', stream: stream.stream, size: 6 * MIB },
      { ifAbsent: true },
    );
    expect(result).toEqual({ written: false, size: 5 });
    expect(bucket.operations).toEqual(['head']);
    await expect.poll(() => stream.over).toBe(true);
    expect(await textOf(store, KEY)).toBe('first');
  });

  it('leaves an object that came meanwhile', async () => {
    const { store, bucket } = open();
    const other = createR2Store({
      bucket: env.BUCKET,
      description: 'r2:BUCKET',
      prefix: `test-${stores - 1}/`,
    });
    bucket.before = async (operation) => {
      if (operation === 'part 1') await other.put(KEY, { kind: 'bytes', bytes: bytesOf('first') });
    };
    const result = await store.put(KEY, { kind: 'stream', stream: source() }, { ifAbsent: true });
    expect(result).toEqual({ written: false, size: 5 });
    expect(bucket.operations).toEqual(['head', 'create', 'part 1', 'part 2', 'head', 'abort']);
    expect(await textOf(store, KEY)).toBe('first');
  });

  it('writes where nothing is there', async () => {
    const { store } = open();
    const result = await store.put(KEY, { kind: 'stream', stream: source() }, { ifAbsent: true });
    expect(result).toEqual({ written: true, size: 6 * MIB });
    expect(await store.head(KEY)).toMatchObject({ size: 6 * MIB });
  });
});

describe('Reading from R2', () => {
  it('is one operation, with a range too, and one more for a range that cannot be satisfied', async () => {
    const { store, bucket } = open();
    await store.put(KEY, { kind: 'bytes', bytes: noise(1000) });
    const operationsOf = async (work: () => Promise<unknown>): Promise<readonly string[]> => {
      bucket.operations.length = 0;
      await work();
      return [...bucket.operations];
    };
    expect(await operationsOf(() => store.get(KEY))).toEqual(['get']);
    expect(await operationsOf(() => store.get('absent'))).toEqual(['get']);
    expect(await operationsOf(() => store.get(KEY, { range: { start: 5, end: 9 } }))).toEqual(['get']);
    expect(await operationsOf(() => store.get(KEY, { range: { suffix: 9 } }))).toEqual(['get']);
    expect(await operationsOf(() => store.get('absent', { range: { start: 5 } }))).toEqual(['get']);
    expect(await operationsOf(() => store.get(KEY, { range: { start: 1000 } }))).toEqual(['get', 'head']);
  });

  it('gives an error, not an end, for a body that is shorter than it should be', async () => {
    for (const size of [1000, 300_000]) {
      const { store, bucket } = open();
      await store.put(KEY, { kind: 'bytes', bytes: noise(size) });
      const cut = createR2Store({
        description: 'r2:BUCKET',
        bucket: {
          ...bucket,
          async get() {
            const whole = new Response(noise(size - 1));
            const body = whole.body;
            if (body === null) throw new Error('Expected a body');
            return { key: KEY, size, uploaded: new Date(), body, arrayBuffer: () => whole.arrayBuffer() };
          },
        },
      });
      await expect(bodyOf(cut, KEY)).rejects.toThrow(
        `Cannot read "${KEY}": it ended after ${size === 1000 ? 999 : 299_999} of ${size} bytes`,
      );
    }
  });

  it.each([10_002, 10_003, 10_006, 10_042])('a refusal (%i) is a fault, never a miss', async (code) => {
    const { store, bucket, pauses } = open();
    bucket.before = () => {
      throw r2Error(code, 'No');
    };
    await expect(store.get(KEY)).rejects.toThrow(StorageError);
    await expect(store.head(KEY)).rejects.toThrow(StorageError);
    await expect(store.ping()).rejects.toThrow(StorageError);
    await expect(store.delete([KEY])).rejects.toThrow(`Cannot delete "${KEY}": operation: No (${code})`);
    await expect(store.put(KEY, { kind: 'bytes', bytes: noise(1) })).rejects.toThrow(StorageError);
    await expect(store.list('nar/')[Symbol.asyncIterator]().next()).rejects.toThrow('Cannot list "nar/"');
    expect(pauses).toEqual([]);
  });
});

describe('A fault of R2 that passes', () => {
  it.each([0, 10_001, 10_043, 10_054, 10_058])('(%i) is met by three more attempts', async (code) => {
    const { store, bucket, pauses } = open();
    let faults = 3;
    bucket.before = () => {
      if (faults-- > 0) throw r2Error(code);
    };
    await store.put(KEY, { kind: 'bytes', bytes: bytesOf('hello') });
    expect(pauses).toEqual([100, 400, 1200]);
    expect(await textOf(store, KEY)).toBe('hello');
  });

  it('and comes a fourth time is an error', async () => {
    const { store, bucket, pauses } = open();
    bucket.before = () => {
      throw r2Error(10_043);
    };
    await expect(store.head(KEY)).rejects.toThrow(/^Cannot look at "nar\/one\.nar": .*\(10043\)$/);
    expect(pauses).toHaveLength(3);
    expect(bucket.operations).toHaveLength(4);
  });

  it('but met a stream is an error at once: it cannot be read twice', async () => {
    const { store, bucket } = open();
    bucket.before = () => {
      throw r2Error(10_043);
    };
    await expect(store.put(KEY, { kind: 'stream', stream: streamOf(noise(9)), size: 9 })).rejects.toThrow(
      '10043',
    );
    expect(bucket.operations).toEqual(['put']);
  });
});

describe('The store in R2', () => {
  it('deletes a thousand keys at once', async () => {
    const { store, bucket } = open();
    await store.delete(Array.from({ length: 2001 }, (_, n) => `nar/${n}`));
    expect(bucket.operations).toEqual(['delete 1000', 'delete 1000', 'delete 1']);
  });

  it('refuses files, saying why', async () => {
    const { store, bucket } = open();
    const attempt = store.put(KEY, { kind: 'file', path: '/tmp/x', size: 1 });
    await expect(attempt).rejects.toThrow(`Cannot store "${KEY}": there are no files on Workers`);
    expect(bucket.operations).toEqual([]);
  });

  it('lists nothing whose name is no key', async () => {
    const { store } = open({ prefix: 'with-others/' });
    for (const name of ['.hidden', 'a b', 'a/', KEY]) await env.BUCKET.put(`with-others/${name}`, 'x');
    const listed = [];
    for await (const { key } of store.list('')) listed.push(key);
    expect(listed).toEqual([KEY]);
  });

  it('knows nothing of what other prefixes have', async () => {
    const one = open({ prefix: 'shared/a/' });
    const other = open({ prefix: 'shared/b/' });
    await one.store.put(KEY, { kind: 'bytes', bytes: bytesOf('one') });
    expect(await other.store.get(KEY)).toBeNull();
    const listed = [];
    for await (const { key } of one.store.list('')) listed.push(key);
    expect(listed).toEqual([KEY]);
    await expect(env.BUCKET.head(`shared/a/${KEY}`)).resolves.not.toBeNull();
  });

  it('makes download URLs only where it was told how', async () => {
    expect(open().store.createDownloadUrl).toBeUndefined();
    const { store } = open({
      createDownloadUrl: async (key, { expiresInSeconds }) =>
        `https://example.org/${key}?${expiresInSeconds}`,
    });
    expect(await store.createDownloadUrl?.(KEY, { expiresInSeconds: 60 })).toBe(
      `https://example.org/${KEY}?60`,
    );
    await expect(store.createDownloadUrl?.('../x', { expiresInSeconds: 60 })).rejects.toThrow(
      'Invalid storage key',
    );
  });

  it.each([0, 5 * MIB - 1, 16 * MIB + 1, Number.NaN])('refuses parts of %d bytes', (partSize) => {
    expect(() => open({ partSize })).toThrow(`Invalid part size ${partSize}: expected 5 to 16 MiB`);
  });

  it('refuses a prefix that no key can have', () => {
    expect(() => open({ prefix: '../' })).toThrow('Invalid storage key');
  });
});
