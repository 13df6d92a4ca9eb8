import { constants, zstdCompressSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { withMethods } from '../support/replaced.ts';
import { narOf, publish, sha256, type SignedPath, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache, until } from '../support/test-cache.ts';

let upstream: FaultServer;
let snowcap: TestCache;
/** Keys of the listings that were stored, each time. */
let stored: string[];

beforeEach(async () => {
  stored = [];
  upstream = await startFaultServer();
  snowcap = await startTestCache({
    upstreams: [upstream.url],
    upstreamSettings: { narHeadersTimeoutMs: 10_000, idleTimeoutMs: 10_000 },
    replace: ({ storage }) => ({
      storage: withMethods<BlobStore>(storage, {
        put(key, source, options) {
          if (key.endsWith('.ls')) stored.push(key);
          return storage.put(key, source, options);
        },
      }),
    }),
  });
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

async function refusal(path: SignedPath): Promise<readonly [number, string]> {
  const response = await snowcap.get(`/${path.hash}.ls`);
  return [response.status, (await response.text()).split(':', 1)[0] ?? ''];
}

/** A directory of symbolic links, whose listing takes more bytes than a listing may have. */
function unlistableNar(): Uint8Array {
  const target = 'a'.repeat(4000);
  const parts = ['nix-archive-1', '(', 'type', 'directory'];
  for (let nth = 10_000; nth < 18_500; nth += 1) {
    const link = ['(', 'type', 'symlink', 'target', target, ')'];
    parts.push('entry', '(', 'name', String(nth), 'node', ...link, ')');
  }
  return narOf(...parts, ')');
}

describe('law 7: listings', () => {
  it('that are asked for at once are made once', async () => {
    const path = await signedPath({ size: 3_000_000, prose: true, compression: 'zstd' });
    publish(upstream, path);
    const answers = await Promise.all(Array.from({ length: 6 }, () => snowcap.get(`/${path.hash}.ls`)));
    const texts = await Promise.all(answers.map((answer) => answer.text()));
    expect(new Set(texts)).toEqual(
      new Set(['{"version":1,"root":{"type":"regular","size":3000000,"narOffset":96}}']),
    );
    await snowcap.settled();
    expect(stored).toEqual([`${path.hash}.ls`]);
  });

  it('of more than two paths wait for their turn, and all come, also after one that fails', async () => {
    const gate = Promise.withResolvers<void>();
    const paths = await Promise.all(
      [1, 2, 3, 4, 5].map((seed) => signedPath({ name: `path-${seed}`, seed, size: 5000 })),
    );
    for (const [nth, path] of paths.entries()) {
      const held = { stallAt: 'headers', until: gate.promise } as const;
      publish(upstream, path, nth === 1 ? { ...held, flipBitAt: 200 } : held);
      await snowcap.get(`/${path.hash}.narinfo`);
    }
    const asked = (): number => upstream.requestsTo(/^\/nar\//).length;
    const answers = paths.map(({ hash }) => snowcap.get(`/${hash}.ls`));
    await until(() => asked() === 2);
    for (const path of paths) await snowcap.get(`/${path.hash}.narinfo`);
    expect(asked()).toBe(2);
    gate.resolve();
    const statuses = (await Promise.all(answers)).map(({ status }) => status);
    expect(statuses).toEqual([200, 502, 200, 200, 200]);
    expect(asked()).toBe(5);
  });

  it('that take too much are refused for good, and their NAR is read but once', async () => {
    const path = await signedPath({ nar: unlistableNar(), compression: 'zstd' });
    publish(upstream, path);
    expect(await refusal(path)).toEqual([501, 'not_listable']);
    await snowcap.settled();
    const reads = snowcap.operations['storage.get'] ?? 0;
    expect(await refusal(path)).toEqual([501, 'not_listable']);
    // One look for the stored listing, none for the NAR.
    expect(snowcap.operations['storage.get']).toBe(reads + 1);
    expect((await snowcap.get(`/${path.url}`)).status).toBe(200);
  });

  it('are not made of a NAR that needs a window of more than 64 MiB to decode', async () => {
    const path = await signedPath({ size: 70_000_000, prose: true, compression: 'zstd' });
    const params = {
      [constants.ZSTD_c_windowLog]: 27,
      [constants.ZSTD_c_compressionLevel]: 1,
      [constants.ZSTD_c_contentSizeFlag]: 0,
    };
    const body = zstdCompressSync(path.nar, { params });
    const fields = { FileHash: sha256(body), FileSize: String(body.length), URL: 'nar/wide.nar.zst' };
    const narInfo = Object.entries(fields).reduce(
      (text, [name, value]) => text.replace(new RegExp(`^${name}: .*$`, 'm'), `${name}: ${value}`),
      path.narInfo,
    );
    publish(upstream, { ...path, body, narInfo, url: fields.URL });
    expect(await refusal(path)).toEqual([501, 'not_listable']);
    // The body itself is as good as any.
    await snowcap.settled();
    expect(snowcap.metric('snowcap_fills_total', { result: 'verified' })).toBe(1);
  });
});
