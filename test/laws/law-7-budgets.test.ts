import { setTimeout } from 'node:timers/promises';
import { zstdCompressSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Spool } from '../../src/spool/spool.ts';
import { StorageError } from '../../src/storage/blob-store.ts';
import { download } from '../support/download.ts';
import { encodedAs } from '../support/encoded-as.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { servedKey, withMethods } from '../support/replaced.ts';
import { publish, type SignedPath, type SignedPathOptions, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache, type TestCacheOptions, until } from '../support/test-cache.ts';

let upstream: FaultServer;
let snowcap: TestCache;

async function start(options: TestCacheOptions): Promise<void> {
  snowcap = await startTestCache({ upstreams: [upstream.url], storage: 'file', ...options });
}

beforeEach(async () => {
  upstream = await startFaultServer();
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

const several = (count: number, options: SignedPathOptions): Promise<readonly SignedPath[]> =>
  Promise.all(
    [...Array(count).keys()].map((n) => signedPath({ ...options, name: `path-${n}`, seed: n + 1 })),
  );

/** Asks for cold bodies of `size` bytes at once; each stands still at its `stallAt`-th byte until `go`. */
async function askStalled(count: number, size: number, stallAt: number) {
  const paths = await several(count, { size });
  const go = Promise.withResolvers<void>();
  for (const path of paths) publish(upstream, path, { stallAt, until: go.promise });
  const keys = await Promise.all(paths.map((path) => servedKey(snowcap, path)));
  const all = Promise.all(keys.map((key) => download(`${snowcap.url}/${key}`)));
  return { paths, keys, all, go: () => go.resolve() };
}

/** Bodies that are in storage when all is over. */
async function storedOf(keys: readonly string[]): Promise<number> {
  await snowcap.settled();
  const heads = await Promise.all(keys.map((key) => snowcap.services.storage.head(key)));
  return heads.filter((head) => head !== null).length;
}

describe('law 7: budgets hold over the whole process', () => {
  it('fills that find no room in the spool stream through, right and unsaved', async () => {
    const limit = 3_500_000;
    await start({ settings: { spoolLimit: limit, bufferLimit: 4_000_000 } });
    const paths = await several(6, { size: 1_500_000 });
    for (const path of paths) publish(upstream, path, { bytesPerSecond: 4_000_000 });
    const keys = await Promise.all(paths.map((path) => servedKey(snowcap, path)));
    const seen = await Promise.all(keys.map((key) => download(`${snowcap.url}/${key}`)));
    for (const [nth, { ended, bytes }] of seen.entries()) {
      expect(ended).toBe('clean');
      expect(bytes.equals(paths[nth]?.body ?? Buffer.alloc(0))).toBe(true);
    }
    expect(await storedOf(keys)).toBe(2);
    expect(snowcap.peak('snowcap_spool_bytes')).toBeGreaterThan(limit / 2);
    expect(snowcap.peak('snowcap_spool_bytes')).toBeLessThanOrEqual(limit);
    // Those that were not saved are, when there is room.
    for (const key of keys) {
      expect((await download(`${snowcap.url}/${key}`)).ended).toBe('clean');
      await snowcap.settled();
    }
    expect(await storedOf(keys)).toBe(6);
  });

  it('small bodies that find no room in the buffers go to the spool', async () => {
    const limit = 1_000_000;
    await start({ settings: { bufferLimit: limit } });
    const paths = await several(8, { size: 300_000 });
    for (const path of paths) publish(upstream, path, { bytesPerSecond: 1_500_000 });
    const keys = await Promise.all(paths.map((path) => servedKey(snowcap, path)));
    const seen = await Promise.all(keys.map((key) => download(`${snowcap.url}/${key}`)));
    expect(seen.every(({ bytes }, nth) => bytes.equals(paths[nth]?.body ?? Buffer.alloc(0)))).toBe(true);
    expect(await storedOf(keys)).toBe(8);
    expect(snowcap.peak('snowcap_buffer_bytes')).toBeGreaterThan(0);
    expect(snowcap.peak('snowcap_buffer_bytes')).toBeLessThanOrEqual(limit);
    expect(snowcap.peak('snowcap_spool_bytes')).toBeGreaterThan(0);
  });

  it('what is put out of the spool into a store that buffers it waits for the memory of others', async () => {
    const memory = { held: 0, peak: 0 };
    const putMemory = 1_000_000;
    await start({
      settings: { bufferLimit: 6_000_000 },
      replace: ({ storage }) => ({
        storage: withMethods(storage, {
          putMemory,
          async put(key, source, options) {
            const taken = source.kind === 'file' ? Math.min(putMemory, source.size) : 0;
            memory.held += taken;
            memory.peak = Math.max(memory.peak, memory.held);
            await setTimeout(taken === 0 ? 0 : 50);
            memory.held -= taken;
            return await storage.put(key, source, options);
          },
        }),
      }),
    });
    const paths = await several(10, { size: 1_500_000 });
    for (const path of paths) publish(upstream, path);
    const keys = await Promise.all(paths.map((path) => servedKey(snowcap, path)));
    const seen = await Promise.all(keys.map((key) => download(`${snowcap.url}/${key}`)));
    expect(seen.every(({ bytes }, nth) => bytes.equals(paths[nth]?.body ?? Buffer.alloc(0)))).toBe(true);
    expect(await storedOf(keys)).toBe(10);
    // Several at once, and no more than half of the buffers.
    expect(memory.peak).toBeGreaterThan(putMemory);
    expect(memory.peak).toBeLessThanOrEqual(3_000_000);
  });

  it('a body that nobody knows the size of takes no more room than was reserved for it', async () => {
    const limit = 3_000_000;
    // Room for three decoders: without a FileHash each body is decoded while it passes.
    await start({ settings: { spoolLimit: limit, bufferLimit: 5_000_000 } });
    const paths = await several(3, { size: 1_200_000, fileFields: false, compression: 'zstd' });
    for (const path of paths)
      publish(upstream, path, { contentLength: 'chunked', bytesPerSecond: 3_000_000 });
    const keys = await Promise.all(paths.map((path) => servedKey(snowcap, path)));
    const seen = await Promise.all(keys.map((key) => download(`${snowcap.url}/${key}`)));
    expect(seen.every(({ bytes }, nth) => bytes.equals(paths[nth]?.body ?? Buffer.alloc(0)))).toBe(true);
    expect(await storedOf(keys)).toBe(2);
    expect(snowcap.peak('snowcap_spool_bytes')).toBeLessThanOrEqual(limit);
  });

  it('a body that must be decoded while it passes unsaved is pushed back where the decoder has no room', async () => {
    await start({ settings: { maxSize: 1000, bufferLimit: 1_000_000 } });
    const [path] = await several(1, { size: 1_200_000, fileFields: false, compression: 'zstd' });
    if (path === undefined) throw new Error('There is one path');
    publish(upstream, path);
    const seen = await download(`${snowcap.url}/${await servedKey(snowcap, path)}`);
    expect(seen.status).toBe(503);
    expect(seen.bytes.toString()).toMatch(/^too_many_transfers: /);
    await until(() => upstream.requestsTo(`/${path.url}`).every(({ state }) => state !== 'open'));
    await snowcap.settled();
  });

  it('fills leave room for bodies that pass through, since there was none to store them', async () => {
    // Of 900 kB each, four would fit, with not enough left for a fifth to pass.
    await start({ settings: { spoolLimit: 0, bufferLimit: 3_700_000 } });
    const { paths, keys, all, go } = await askStalled(5, 900_000, 500_000);
    await until(() => paths.every(({ url }) => upstream.requestsTo(`/${url}`).length > 0));
    go();
    for (const [nth, { status, ended, bytes }] of (await all).entries()) {
      expect({ status, ended }).toEqual({ status: 200, ended: 'clean' });
      expect(bytes.equals(paths[nth]?.body ?? Buffer.alloc(0))).toBe(true);
    }
    expect(await storedOf(keys)).toBe(3);
  });

  it('too many transfers at once are pushed back with 503, and the others are right', async () => {
    await start({ settings: { spoolLimit: 0, bufferLimit: 700_000 } });
    const { paths, keys, all, go } = await askStalled(8, 1_200_000, 600_000);
    await until(() => snowcap.logs.filter(({ fields }) => fields['status'] === 503).length > 0);
    go();
    const seen = await all;
    const refused = seen.filter(({ status }) => status === 503);
    expect(refused.length).toBeGreaterThan(0);
    expect(refused.length).toBeLessThan(8);
    for (const { headers } of refused) expect(headers['retry-after']).toMatch(/^[1-9]/);
    for (const [nth, { status, ended, bytes }] of seen.entries()) {
      if (status === 503) continue;
      expect(ended).toBe('clean');
      expect(bytes.equals(paths[nth]?.body ?? Buffer.alloc(0))).toBe(true);
    }
    expect(snowcap.peak('snowcap_buffer_bytes')).toBeLessThanOrEqual(700_000);
    await snowcap.settled();
    for (const key of keys) expect((await download(`${snowcap.url}/${key}`)).status).toBe(200);
  });
});

describe('law 7: a body larger than the cache is streamed, never stored', () => {
  it.each<readonly [string, SignedPathOptions, 'exact' | 'chunked']>([
    ['by its FileSize', {}, 'exact'],
    ['by its Content-Length', { fileFields: false }, 'exact'],
    ['by the size of its NAR', { fileFields: false }, 'chunked'],
    ['by its bytes as they come', { fileFields: false, compression: 'zstd' }, 'chunked'],
  ])('known %s', async (_, options, contentLength) => {
    await start({ settings: { maxSize: 1_000_000 } });
    const path = await signedPath({ size: 1_200_000, ...options });
    publish(upstream, path, { contentLength });
    const key = await servedKey(snowcap, path);
    const { ended, bytes } = await download(`${snowcap.url}/${key}`);
    expect(ended).toBe('clean');
    expect(bytes.equals(path.body)).toBe(true);
    expect(await storedOf([key])).toBe(0);
    expect((await snowcap.services.metadata.getNar(key))?.nar.state).toBe('known');
    expect((await snowcap.services.metadata.totals()).presentBytes).toBe(0);
  });
});

describe('law 7: decompression bombs', () => {
  it.each([
    ['zeros', Buffer.alloc(200 * 2 ** 20)],
    ['a long tail behind the right NAR', null],
  ])('of %s are refused as soon as they pass the NarSize, and a listing of them too', async (_, content) => {
    await start({});
    const path = await signedPath({ compression: 'zstd', size: 2_000, url: () => 'nar/bomb.nar.zst' });
    const bomb = zstdCompressSync(content ?? Buffer.concat([path.nar, Buffer.alloc(100 * 2 ** 20)]));
    publish(upstream, encodedAs(path, bomb));
    const key = await servedKey(snowcap, path);
    const before = process.memoryUsage.rss();
    const { status, bytes } = await download(`${snowcap.url}/${key}`);
    expect([status, bytes.toString().split(':')[0]]).toEqual([502, 'body_mismatch']);
    expect((await snowcap.get(`/${path.hash}.ls`)).status).toBe(502);
    expect(process.memoryUsage.rss() - before).toBeLessThan(64 * 2 ** 20);
    expect(await storedOf([key, `${path.hash}.ls`])).toBe(0);
  });
});

describe('law 7: no space left for the spool', () => {
  it.each([0, 1, 70_000, 500_000, 1_190_000])(
    'after %i bytes of a body: leader and followers get it all the same, nothing is stored',
    async (room) => {
      await start({
        replace: ({ spool }) => ({
          spool:
            spool === null
              ? null
              : withMethods<Spool>(spool, { create: (name) => limited(spool, name, room) }),
        }),
      });
      const path = await signedPath({ size: 1_200_000 });
      publish(upstream, path, { bytesPerSecond: 6_000_000 });
      const key = await servedKey(snowcap, path);
      const seen = await Promise.all([
        download(`${snowcap.url}/${key}`),
        download(`${snowcap.url}/${key}`, { bytesPerSecond: 3_000_000 }),
        download(`${snowcap.url}/${key}`),
      ]);
      for (const { ended, bytes } of seen) {
        expect(ended).toBe('clean');
        expect(bytes.equals(path.body)).toBe(true);
      }
      expect(await storedOf([key])).toBe(0);
      expect(await snowcap.spooled()).toEqual([]);
    },
  );

  async function limited(spool: Spool, name: string, room: number): ReturnType<Spool['create']> {
    const file = await spool.create(name);
    return withMethods(file, {
      append: (chunk) =>
        file.written + chunk.length > room
          ? Promise.reject(new StorageError('Cannot write the spool: ENOSPC'))
          : file.append(chunk),
    });
  }
});
