import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { CacheServices } from '../../src/cache/services.ts';
import { MetadataError, type MetadataStore } from '../../src/database/metadata-store.ts';
import { type BlobStore, StorageError } from '../../src/storage/blob-store.ts';
import { download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { servedKey, withMethods } from '../support/replaced.ts';
import { publish, type SignedPath, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache } from '../support/test-cache.ts';

/** Storage and index that can be put out of order while the cache runs. */
interface Switches {
  /** Reads of the storage are refused, as with a 403. */
  storage: boolean;
  /** Writes into it too. */
  writes: boolean;
  index: boolean;
}

let broken: Switches;
let upstream: FaultServer;
let snowcap: TestCache;
let path: SignedPath;

const forbidden = (): Promise<never> => Promise.reject(new StorageError('Cannot read "x": EACCES'));
const unwritable = (): Promise<never> => Promise.reject(new StorageError('Cannot write "x": EACCES'));

function switched(services: CacheServices): Partial<CacheServices> {
  const { storage, metadata } = services;
  return {
    storage: withMethods<BlobStore>(storage, {
      get: (...given) => (broken.storage ? forbidden() : storage.get(...given)),
      head: (...given) => (broken.storage ? forbidden() : storage.head(...given)),
      put: (...given) => (broken.writes ? unwritable() : storage.put(...given)),
    }),
    metadata: new Proxy(metadata, {
      get(object, name): unknown {
        const member: unknown = Reflect.get(object, name, object);
        if (typeof member !== 'function') return member;
        return (...given: readonly unknown[]): unknown => {
          if (broken.index) return Promise.reject(new MetadataError(`Cannot ${String(name)}: malformed`));
          return Reflect.apply(member, object, given);
        };
      },
    }) satisfies MetadataStore,
  };
}

beforeEach(async () => {
  broken = { storage: false, writes: false, index: false };
  upstream = await startFaultServer();
  snowcap = await startTestCache({ upstreams: [upstream.url], storage: 'file', replace: switched });
  path = await signedPath({ size: 300_000 });
  publish(upstream, path);
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

async function refusal(target: string, method: 'GET' | 'HEAD' = 'GET'): Promise<readonly [number, string]> {
  const { status, headers, bytes } = await download(`${snowcap.url}/${target}`, { method });
  expect(headers['cache-control']).toBe('no-store');
  return [status, bytes.toString().split(':', 1)[0] ?? ''];
}

describe('law 5: a fault of the storage is not a miss', () => {
  it('a NAR that may be in storage is 502 where no upstream has it any more', async () => {
    const key = await servedKey(snowcap, path);
    await download(`${snowcap.url}/${key}`);
    await snowcap.settled();
    upstream.reset();
    broken.storage = true;
    expect(await refusal(key)).toEqual([502, 'storage_unavailable']);
    expect((await refusal(key, 'HEAD'))[0]).toBe(502);
    expect(await refusal(`nar/${'1'.repeat(52)}.nar.xz`)).toEqual([502, 'storage_unavailable']);
    expect((await refusal(`nar/${'1'.repeat(52)}.nar.xz`, 'HEAD'))[0]).toBe(502);
    broken.storage = false;
    expect((await download(`${snowcap.url}/${key}`)).bytes.equals(path.body)).toBe(true);
  });

  it.each(['nar/%41.nar.xz', 'nar/.hidden', 'nar/a//b'])(
    'a name that no storage could hold (%s) is missing where no upstream has it',
    async (target) => {
      expect((await refusal(target))[0]).toBe(404);
      expect((await refusal(target, 'HEAD'))[0]).toBe(404);
    },
  );

  it('a listing that may be in storage is 502 too', async () => {
    expect((await snowcap.get(`/${path.hash}.ls`)).status).toBe(200);
    await snowcap.settled();
    expect(await snowcap.services.storage.head(`${path.hash}.ls`)).not.toBeNull();
    upstream.reset();
    broken.storage = true;
    expect((await refusal(`${path.hash}.ls`))[0]).toBe(502);
    expect((await refusal(`${'1'.repeat(32)}.ls`))[0]).toBe(502);
  });

  it('what an upstream has is served all the same, right, and costs a download each time', async () => {
    const key = await servedKey(snowcap, path);
    broken.storage = true;
    broken.writes = true;
    for (const round of [1, 2]) {
      const { ended, bytes } = await download(`${snowcap.url}/${key}`);
      expect({ round, ended }).toEqual({ round, ended: 'clean' });
      expect(bytes.equals(path.body)).toBe(true);
      await snowcap.settled();
    }
    expect(await snowcap.services.metadata.totals()).toEqual({ presentBytes: 0, presentNars: 0 });
    expect(await snowcap.spooled()).toEqual([]);
  });

  it('a body that cannot be written is never called present, and is written when that is possible again', async () => {
    const key = await servedKey(snowcap, path);
    broken.writes = true;
    expect((await download(`${snowcap.url}/${key}`)).bytes.equals(path.body)).toBe(true);
    await snowcap.settled();
    expect((await snowcap.services.metadata.getNar(key))?.nar.state).toBe('known');
    broken.writes = false;
    expect((await download(`${snowcap.url}/${key}`)).bytes.equals(path.body)).toBe(true);
    await snowcap.settled();
    expect((await snowcap.services.metadata.getNar(key))?.nar.state).toBe('present');
  });
});

describe('law 5: a fault of the index is not a miss', () => {
  it('a NAR that is not in storage is 502, for a key of any kind', async () => {
    const derived = await signedPath({ name: 'derived', url: () => 'nar/opaque.nar' });
    publish(upstream, derived);
    const keys = [
      await servedKey(snowcap, path),
      await servedKey(snowcap, derived),
      `nar/${'1'.repeat(52)}.nar`,
    ];
    broken.index = true;
    for (const key of keys) {
      expect(await refusal(key)).toEqual([502, 'index_unavailable']);
      expect((await refusal(key, 'HEAD'))[0]).toBe(502);
    }
  });

  it('a narinfo that is not in the bucket is 502, also where the bucket cannot be read', async () => {
    broken.index = true;
    expect(await refusal(`${path.hash}.narinfo`)).toEqual([502, 'index_unavailable']);
    broken.storage = true;
    expect(await refusal(`${path.hash}.narinfo`)).toEqual([502, 'index_unavailable']);
    expect((await refusal(`${path.hash}.ls`))[0]).toBe(502);
    broken.index = false;
    expect((await snowcap.get(`/${path.hash}.narinfo`)).status).toBe(200);
  });

  it('an index that breaks between the narinfo and the end of a fill leaves the body right', async () => {
    const large = await signedPath({ name: 'large', size: 1_500_000 });
    const go = Promise.withResolvers<void>();
    publish(upstream, large, { stallAt: 700_000, until: go.promise });
    const key = await servedKey(snowcap, large);
    const { ended, bytes } = await download(`${snowcap.url}/${key}`, {
      onProgress(received) {
        if (received < 500_000) return;
        broken.index = true;
        go.resolve();
      },
    });
    expect(ended).toBe('clean');
    expect(bytes.equals(large.body)).toBe(true);
    await snowcap.settled();
    // Stored, and found there without the index.
    expect((await download(`${snowcap.url}/${key}`)).bytes.equals(large.body)).toBe(true);
  });
});

describe('law 5: 503 is deliberate push-back only, and says when to come again', () => {
  it('where every buffer is taken', async () => {
    const key = await servedKey(snowcap, path);
    await snowcap.close();
    snowcap = await startTestCache({
      upstreams: [upstream.url],
      settings: { bufferLimit: 100_000 },
      replace: () => ({ spool: null }),
    });
    await servedKey(snowcap, path);
    const { status, headers, bytes } = await download(`${snowcap.url}/${key}`);
    expect(status).toBe(503);
    expect(headers['retry-after']).toMatch(/^[1-9][0-9]*$/);
    expect(headers['cache-control']).toBe('no-store');
    expect(bytes.toString()).toMatch(/^too_many_transfers: /);
  });

  it('errors are JSON for those who ask for it, with the code, a sentence and the id of the request', async () => {
    await upstream.down();
    const response = await snowcap.get(`/${path.hash}.narinfo`, {
      headers: { accept: 'application/json', 'x-request-id': 'abc-1' },
    });
    expect(response.status).toBe(502);
    expect(response.headers.get('x-request-id')).toBe('abc-1');
    const text = await response.text();
    expect(text).toMatch(/^{"error":{"code":"upstream_unreachable","message":".+","request":"abc-1"}}$/);
    expect(text).toContain(upstream.url);
  });
});
