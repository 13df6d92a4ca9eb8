import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  copyStorage,
  type CopyStorageOptions,
  type CopyStorageReport,
} from '../../src/cache/copy-storage.ts';
import { storePinMirror } from '../../src/cache/mirrors.ts';
import { orLeaveSource } from '../../src/storage/blob-source.ts';
import { type BlobStore, StorageError } from '../../src/storage/blob-store.ts';
import { createFileStore } from '../../src/storage/file.ts';
import { createMemoryStore } from '../../src/storage/memory.ts';
import { createS3Store } from '../../src/storage/s3/s3.ts';
import { streamOf } from '../../src/stream/byte-stream.ts';
import { systemClock } from '../../src/telemetry/system-clock.ts';
import { faultsOf } from '../support/bucket.ts';
import { recordSteps, runScript } from '../support/checkpoint.ts';
import { contentOf } from '../support/copied-store.ts';
import { withMethods } from '../support/replaced.ts';
import { type S3Server, startS3Server } from '../support/s3-server.ts';
import { s3StoreOptions } from '../support/s3-store.ts';
import { type SignedPath, signedPath } from '../support/signed-path.ts';

const CRASHING = new URL('../support/copy-storage-writer.ts', import.meta.url).pathname;

let directory: string;
let server: S3Server;
let roots = 0;
let from: BlobStore;
let to: BlobStore;
const opened: BlobStore[] = [];

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'snowcap-copy-storage-'));
  server = await startS3Server();
});

afterAll(async () => {
  await server.close();
  await rm(directory, { recursive: true, force: true });
});

beforeEach(() => {
  from = createMemoryStore();
  to = createMemoryStore();
});

afterEach(async () => {
  for (const store of opened.splice(0)) await store.close();
});

function newRoot(): string {
  return join(directory, `store-${++roots}`);
}

async function fileStore(root: string = newRoot()): Promise<BlobStore> {
  const store = await createFileStore({ root });
  opened.push(store);
  return store;
}

function s3Store(): Promise<BlobStore> {
  const store = createS3Store({ ...s3StoreOptions(server), partSize: 5 * 1024 * 1024 });
  opened.push(store);
  return Promise.resolve(store);
}

function copy(options: Partial<CopyStorageOptions> = {}): Promise<CopyStorageReport> {
  return copyStorage(from, to, { platform: { clock: systemClock }, storeDir: '/nix/store', ...options });
}

async function put(store: BlobStore, key: string, bytes: Uint8Array | string): Promise<void> {
  await store.put(key, { kind: 'bytes', bytes: Buffer.from(bytes) });
}

/** @param key of the NAR, where it is not the upstream's */
async function putPath(store: BlobStore, path: SignedPath, key: string = path.url): Promise<void> {
  await put(store, key, path.body);
  await put(store, `${path.hash}.narinfo`, path.narInfo.replace(`URL: ${path.url}\n`, `URL: ${key}\n`));
}

async function narInfoOf(store: BlobStore, { hash }: SignedPath): Promise<string | null> {
  const blob = await store.get(`${hash}.narinfo`);
  return blob?.kind === 'found' && blob.body.kind === 'bytes'
    ? Buffer.from(blob.body.bytes).toString()
    : null;
}

/** Of everything that a bucket holds. */
async function fill(store: BlobStore): Promise<readonly SignedPath[]> {
  const paths = await Promise.all([
    signedPath({ name: 'one', seed: 1 }),
    signedPath({ name: 'two', seed: 2, compression: 'xz', size: 50_000 }),
    signedPath({ name: 'large', seed: 3, size: 6_000_000 }),
    signedPath({ name: 'derived', seed: 4, compression: 'zstd', prose: true }),
  ]);
  for (const path of paths) {
    const key = `nar/${path.hash}-${path.narHash.slice('sha256:'.length)}.nar.zst`;
    await (path === paths[3] ? putPath(store, path, key) : putPath(store, path));
  }
  await put(store, 'nix-cache-info', 'StoreDir: /nix/store\n');
  await put(store, `${paths[0]?.hash ?? ''}.ls`, '{"version":1}');
  await put(store, 'log/x.drv', 'built');
  await put(store, 'realisations/sha256:00!out.doi', '{}');
  await put(store, 'snowcap/trusted-keys', 'upstream.test-1:x\n');
  const pin = { name: 'system', storePath: '/nix/store/x', hash: 'x', createdAt: 1, expiresAt: null };
  await storePinMirror(store, pin);
  return paths;
}

/** But for the note of what the narinfos were checked against. */
async function expectCopied(): Promise<void> {
  const expected = new Map(await contentOf(from));
  expected.delete('snowcap/trusted-keys');
  expect(await contentOf(to)).toEqual(expected);
}

describe('a storage is copied', () => {
  it.each([
    ['files to S3', fileStore, s3Store],
    ['S3 to files', s3Store, fileStore],
    ['S3 to S3', s3Store, s3Store],
    ['files to files', fileStore, fileStore],
  ] as const)('from %s, with all that it holds, and what came since', async (_, source, target) => {
    from = await source();
    to = await target();
    await fill(from);
    const before = await contentOf(from);
    const report = await copy();
    expect(report).toMatchObject({ objects: 13, copied: 13, same: 0, wrong: 0, vanished: 0, failed: 0 });
    await expectCopied();
    expect(await contentOf(from)).toEqual(before);
    expect(await server.openUploads('')).toEqual([]);

    await putPath(from, await signedPath({ name: 'late', seed: 9 }));
    expect(await copy()).toMatchObject({ copied: 2, same: 13 });
    expect(await copy({ content: true })).toMatchObject({ copied: 0, same: 15 });
    await expectCopied();
  });

  it('page by page, out of listings that are begun once: a folder of files is read as a whole for each', async () => {
    for (let number = 0; number < 2001; number += 1) await put(from, `log/${number}.drv`, `${number}`);
    const begun: string[] = [];
    const counted = (store: BlobStore): BlobStore =>
      withMethods(store, {
        list: (prefix, options) => {
          begun.push(`${prefix} after ${options?.after ?? ''}`);
          return store.list(prefix, options);
        },
      });
    [from, to] = [counted(from), counted(to)];
    expect(await copy()).toMatchObject({ copied: 2001 });
    expect(begun.sort()).toEqual([' after ', ' after ', 'nar/ after ', 'nar/ after ']);
    expect(await copy()).toMatchObject({ copied: 0, same: 2001 });
    await expectCopied();
  });

  it('and only counted in a dry run', async () => {
    await fill(from);
    await put(to, 'snowcap/trusted-keys', 'mine');
    expect(await copy({ dryRun: true })).toMatchObject({ objects: 13, copied: 13 });
    expect([...(await contentOf(to)).keys()]).toEqual(['snowcap/trusted-keys']);
  });

  it('once, also where a store lists milliseconds and tells seconds of an object', async () => {
    await put(from, 'log/x.drv', 'built');
    const source = from;
    let reads = 0;
    from = withMethods(source, {
      async head(key) {
        const blob = await source.head(key);
        return blob && { ...blob, modifiedAt: Math.floor(blob.modifiedAt / 1000) * 1000 };
      },
      get(key, options) {
        reads += 1;
        return source.get(key, options);
      },
    });
    expect(await copy()).toMatchObject({ copied: 1 });
    expect(reads).toBe(1);
  });

  it('no faster than it may be', async () => {
    await put(from, 'nar/x.nar', Buffer.alloc(5000));
    let slept = 0;
    const clock = {
      now: () => slept,
      sleep: (milliseconds: number) => Promise.resolve(void (slept += milliseconds)),
    };
    await put(from, 'nar/y.nar', Buffer.alloc(5000));
    await copy({ platform: { clock }, bytesPerSecond: 1000, concurrency: 1 });
    expect(slept).toBeGreaterThanOrEqual(5000);
  });

  it('holding no more of it in memory than the store does', async () => {
    const chunk = new Uint8Array(64 * 1024);
    async function* endless(): AsyncGenerator<Uint8Array, void, void> {
      for (let number = 0; number < 100; number += 1) yield await Promise.resolve(chunk);
    }
    const size = 100 * chunk.length;
    await from.put('nar/large.nar', { kind: 'stream', stream: endless(), size });
    let ahead = 0;
    let most = 0;
    from = withMethods(from, {
      async get() {
        async function* counted(): AsyncGenerator<Uint8Array, void, void> {
          for await (const bytes of endless()) {
            ahead += 1;
            most = Math.max(most, ahead);
            yield bytes;
          }
        }
        const body = { kind: 'stream' as const, stream: counted() };
        return { kind: 'found', key: 'nar/large.nar', size, modifiedAt: 0, start: 0, end: size - 1, body };
      },
    });
    to = withMethods(to, {
      async put(_key, source) {
        if (source.kind !== 'stream') throw new Error('expected a stream');
        for await (const _ of source.stream) ahead -= 1;
        return { written: true, size };
      },
    });
    await copy();
    expect(most).toBe(1);
  });
});

describe('law 8: the copy is a binary cache at any time', () => {
  it('as no narinfo is there before its NAR, also one that came since the NARs were listed', async () => {
    await fill(from);
    const late = await signedPath({ name: 'late', seed: 9 });
    const order: string[] = [];
    to = withMethods(to, {
      async put(key, source, options) {
        if (order.length === 0) await putPath(from, late);
        order.push(key);
        return await createMemoryTarget.put(key, source, options);
      },
      head: (key) => createMemoryTarget.head(key),
      get: (key, options) => createMemoryTarget.get(key, options),
      list: (prefix, options) => createMemoryTarget.list(prefix, options),
    });
    const createMemoryTarget = createMemoryStore();
    // Its NAR sorts before all others, and was not in the list.
    const { copied } = await copy({ concurrency: 1 });
    expect(copied).toBeGreaterThanOrEqual(14);
    for (const key of order.filter((key) => key.endsWith('.narinfo'))) {
      const narInfo = await from.get(key);
      const text = narInfo?.kind === 'found' && narInfo.body.kind === 'bytes' ? narInfo.body.bytes : '';
      const url = /^URL: (.*)$/m.exec(Buffer.from(text).toString())?.[1] ?? '';
      expect(order.indexOf(url), key).toBeGreaterThanOrEqual(0);
      expect(order.indexOf(url), key).toBeLessThan(order.indexOf(key));
    }
    expect(order).toContain(late.url);
  });

  it('also where the source gets another narinfo for a path just then, or loses the path', async () => {
    const [one, two] = await fill(from);
    const other = await signedPath({ name: 'one', seed: 1, compression: 'gzip' });
    if (one === undefined || two === undefined) throw new Error('no paths');
    expect(other.hash).toBe(one.hash);
    await new Promise((resolve) => setTimeout(resolve, 2));
    const original = from;
    let changed = 0;
    from = withMethods(original, {
      async head(key) {
        // The narinfos were read by now, and their NARs are looked for.
        if (key === one.url && changed === 0) {
          changed += 1;
          await putPath(original, other);
        }
        if (key === two.url) await original.delete([`${two.hash}.narinfo`, two.url]);
        return await original.head(key);
      },
    });
    const target = to;
    to = withMethods(target, { head: (key) => (key === two.url ? Promise.resolve(null) : target.head(key)) });
    const orders: string[] = [];
    to = withMethods(to, {
      async put(key, source, options) {
        const written = await target.put(key, source, options);
        if (key === `${one.hash}.narinfo`) {
          const url = /^URL: (.*)$/m.exec((await narInfoOf(target, one)) ?? '')?.[1] ?? '';
          orders.push(url);
          expect(await target.head(url)).not.toBeNull();
        }
        return written;
      },
    });
    expect(await copy()).toMatchObject({ vanished: 1, wrong: 0 });
    expect([...(await contentOf(to)).keys()]).not.toContain(`${two.hash}.narinfo`);
    // Of the same length as the other, and older than what was made of that.
    expect(orders).toEqual([one.url, other.url]);
    expect(await narInfoOf(to, one)).toBe(other.narInfo);
  });

  it('and holds nothing of what is wrong or gone, which is reported', async () => {
    const paths = await fill(from);
    const [one, two, , derived] = paths;
    if (one === undefined || two === undefined || derived === undefined) throw new Error('no paths');
    await put(from, one.url, Buffer.from(one.body).fill(7, 500, 508));
    await from.delete([two.url]);
    const derivedKey = `nar/${derived.hash}-${derived.narHash.slice('sha256:'.length)}.nar.zst`;
    await put(from, derivedKey, Buffer.from(derived.body).fill(7, 20, 28));
    await put(from, `${'0'.repeat(32)}.narinfo`, 'no narinfo');
    const original = from;
    from = withMethods(original, {
      get: (key, options) => (key === 'log/x.drv' ? Promise.resolve(null) : original.get(key, options)),
    });
    const report = await copy();
    expect(report).toMatchObject({ wrong: 6, vanished: 1, failed: 0 });
    const reasons = new Map(report.issues.map(({ key, reason }) => [key, reason]));
    expect(reasons.get(one.url)).toContain(`expected ${one.fileHash}`);
    expect(reasons.get(`${one.hash}.narinfo`)).toContain('its NAR');
    expect(reasons.get(`${two.hash}.narinfo`)).toContain('is not stored');
    expect(reasons.get(derivedKey)).toContain(`expected ${derived.fileHash}`);
    const keys = [...(await contentOf(to)).keys()];
    for (const { hash } of [one, two, derived]) expect(keys).not.toContain(`${hash}.narinfo`);
    for (const key of [one.url, two.url, derivedKey]) expect(keys).not.toContain(key);
  });

  it('and is written again where it is of another size, or its content differs', async () => {
    const [one] = await fill(from);
    await copy();
    if (one === undefined) throw new Error('no path');
    await put(to, one.url, Buffer.from(one.body).fill(7, 500, 508));
    expect(await copy()).toMatchObject({ copied: 0 });
    expect(await copy({ content: true })).toMatchObject({ copied: 1 });
    await put(to, one.url, one.body.subarray(1));
    expect(await copy()).toMatchObject({ copied: 1 });
    await expectCopied();
  });

  it('and says of no narinfo that it was checked, although an instance that uses the target does so', async () => {
    await fill(from);
    const target = to;
    to = withMethods(target, {
      async put(key, source, options) {
        await put(target, 'snowcap/trusted-keys', 'upstream.test-1:x\n');
        return await target.put(key, source, options);
      },
    });
    await copy();
    expect(await target.head('snowcap/trusted-keys')).toBeNull();
  });

  it('and takes a narinfo anew that was signed anew', async () => {
    const [one] = await fill(from);
    await copy();
    if (one === undefined) throw new Error('no path');
    await new Promise((resolve) => setTimeout(resolve, 2));
    await put(from, `${one.hash}.narinfo`, one.narInfo.replace('upstream.test-1', 'upstream.test-2'));
    expect(await copy()).toMatchObject({ copied: 1 });
    await expectCopied();
  });
});

describe('a copy that does not come to its end', () => {
  it('reports objects that cannot be read, and gives up where none can be', async () => {
    await fill(from);
    const original = from;
    let broken = (key: string): boolean => key === 'log/x.drv';
    from = withMethods(original, {
      get: (key, options) =>
        broken(key) ? Promise.reject(new StorageError(`Cannot read ${key}`)) : original.get(key, options),
    });
    const report = await copy();
    expect(report).toMatchObject({ failed: 1, copied: 12 });
    expect(report.issues).toEqual([{ kind: 'failed', key: 'log/x.drv', reason: 'Cannot read log/x.drv' }]);
    to = createMemoryStore();
    broken = () => true;
    await expect(copy()).rejects.toThrow(StorageError);
    broken = () => false;
    expect(await copy()).toMatchObject({ failed: 0 });
    from = original;
    await expectCopied();
  });

  it('begins nothing more, and waits for nothing, once it has given up', async () => {
    for (let number = 0; number < 100; number += 1) await put(from, `log/${number}.drv`, `${number}`);
    let puts = 0;
    to = withMethods(to, {
      put(_key, _source, options) {
        puts += 1;
        if (puts > 4) return Promise.reject(new StorageError('The disk is full'));
        return new Promise((_, reject) => {
          options?.signal?.addEventListener('abort', () => reject(new StorageError('too late')));
        });
      },
    });
    await expect(copy()).rejects.toThrow('The disk is full');
    expect(puts).toBeLessThanOrEqual(4 + 10 + 8);
  });

  it('leaves the source when the target breaks before it asks for anything', async () => {
    await put(from, 'nar/x.nar', Buffer.alloc(300_000));
    let left = 0;
    const stream = {
      [Symbol.asyncIterator]: () => ({
        next: () => Promise.reject(new Error('nobody asks')),
        return: () => {
          left += 1;
          return Promise.resolve({ done: true as const, value: undefined });
        },
      }),
    };
    from = withMethods(from, {
      get: (key) =>
        Promise.resolve({
          kind: 'found' as const,
          key,
          size: 300_000,
          modifiedAt: 0,
          start: 0,
          end: 299_999,
          body: { kind: 'stream' as const, stream },
        }),
    });
    to = withMethods(to, {
      put: (_key, source) => orLeaveSource(source, () => Promise.reject(new StorageError('read-only'))),
    });
    expect(await copy()).toMatchObject({ failed: 1 });
    expect(left).toBe(1);
  });

  it('leaves the source when the target breaks', async () => {
    let left = false;
    from = withMethods(from, {
      get: (key) => {
        async function* body(): AsyncGenerator<Uint8Array, void, void> {
          try {
            yield* streamOf(new Uint8Array(10), new Uint8Array(10));
          } finally {
            left = true;
          }
        }
        const stream = { kind: 'stream' as const, stream: body() };
        return Promise.resolve({
          kind: 'found',
          key,
          size: 20,
          modifiedAt: 0,
          start: 0,
          end: 19,
          body: stream,
        });
      },
    });
    await put(from, 'nar/x.nar', Buffer.alloc(20));
    to = withMethods(to, {
      put: async (_key, source) => {
        if (source.kind === 'stream') {
          for await (const _ of source.stream) throw new StorageError('full');
        }
        throw new StorageError('unexpected');
      },
    });
    expect(await copy()).toMatchObject({ failed: 1 });
    expect(left).toBe(true);
  });

  it('is completed after a kill at any of its steps, and leaves nothing partial', async () => {
    const source = newRoot();
    from = await fileStore(source);
    await fill(from);
    const { steps, checkpoint } = recordSteps();
    await copyStorage(from, await createFileStore({ root: newRoot(), checkpoint }), {
      platform: { clock: systemClock, checkpoint },
      storeDir: '/nix/store',
      concurrency: 1,
    });
    const names = [...new Set(steps)];
    expect(names).toContain('copy:object');
    const places = names.flatMap((step) => {
      const times = steps.filter((each) => each === step).length;
      return times > 4 ? [[step, 1] as const, [step, times - 3] as const] : [[step, 1] as const];
    });
    for (const [step, occurrence] of places) {
      const root = newRoot();
      const end = await runScript(CRASHING, [source, root, step, String(occurrence)]);
      expect(end, `${step}: ${end.stderr}`).toMatchObject({ signal: 'SIGKILL' });
      // A derived key names the NarHash, not the FileHash.
      const faults = (await faultsOf(root)).filter((fault) => !fault.includes('.zst has FileHash'));
      expect(faults, step).toEqual([]);
      to = await fileStore(root);
      expect(await copy(), step).toMatchObject({ wrong: 0, failed: 0, vanished: 0 });
      await expectCopied();
    }
  });
});
