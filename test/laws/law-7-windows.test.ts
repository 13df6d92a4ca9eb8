import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { servedKey } from '../support/replaced.ts';
import { publish, type SignedPath, type SignedPathOptions, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache, until } from '../support/test-cache.ts';

let upstream: FaultServer;
let snowcap: TestCache;
/** How many bodies were verified in the background. */
let inBackground: number;

async function start(bufferLimit: number): Promise<void> {
  snowcap = await startTestCache({
    upstreams: [upstream.url],
    upstreamSettings: { idleTimeoutMs: 20_000 },
    storage: 'file',
    settings: { bufferLimit },
    replace: ({ digestNar }) => ({
      digestNar(...parts) {
        inBackground += 1;
        return digestNar(...parts);
      },
    }),
  });
}

beforeEach(async () => {
  inBackground = 0;
  upstream = await startFaultServer();
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

const NAR_BYTES = 3_000_000;

/** Paths whose bodies stand still before their end until they are let go, and their keys. */
async function stalled(
  count: number,
  options: SignedPathOptions,
): Promise<{ readonly paths: readonly SignedPath[]; readonly keys: readonly string[]; go(): void }> {
  const end = Promise.withResolvers<void>();
  const paths = await Promise.all(
    [...Array(count).keys()].map((n) =>
      signedPath({ ...options, size: NAR_BYTES, name: `path-${n}`, seed: n + 1 }),
    ),
  );
  for (const path of paths) publish(upstream, path, { stallAt: NAR_BYTES / 2, until: end.promise });
  const keys: string[] = [];
  for (const path of paths) keys.push(await servedKey(snowcap, path));
  return { paths, keys, go: () => end.resolve() };
}

describe('law 7: the windows of the decoders that bodies pass by count as buffers', () => {
  it.each(['zstd', 'gzip'] as const)(
    'of %s: who finds no room is verified by its FileHash, and then in the background',
    async (compression) => {
      const limit = 1.5 * NAR_BYTES;
      await start(limit);
      const { paths, keys, go } = await stalled(4, { compression });
      const all = keys.map((key) => download(`${snowcap.url}/${key}`));
      await until(() => snowcap.metric('snowcap_fills_in_flight') === 4);
      // Of gzip, which takes little, all fit.
      const fit = compression === 'zstd' ? 1 : 4;
      await until(() => snowcap.metric('snowcap_buffer_bytes') > 0);
      go();
      for (const [nth, { ended, bytes }] of (await Promise.all(all)).entries()) {
        expect(ended).toBe('clean');
        expect(bytes.equals(paths[nth]?.body ?? Buffer.alloc(0))).toBe(true);
      }
      const verifications = async (): Promise<readonly unknown[]> =>
        await Promise.all(
          keys.map(async (key) => (await snowcap.services.metadata.getNar(key))?.nar.verification),
        );
      await until(async () => (await verifications()).every((verification) => verification === 'nar'));
      expect(inBackground).toBe(4 - fit);
      const peak = snowcap.peak('snowcap_buffer_bytes');
      expect(peak).toBeLessThanOrEqual(limit);
      if (compression === 'zstd') expect(peak).toBeGreaterThanOrEqual(NAR_BYTES);
      await snowcap.settled();
    },
  );

  it.each(['zstd', 'xz'] as const)(
    'of %s without FileHash: who finds no room is pushed back with 503, and right when there is room again',
    async (compression) => {
      await start(1.5 * NAR_BYTES);
      const { paths, keys, go } = await stalled(2, { compression, fileFields: false });
      const [one = '', two = ''] = keys.map((key) => `${snowcap.url}/${key}`);
      const first = download(one);
      await until(() => snowcap.metric('snowcap_buffer_bytes') >= NAR_BYTES);
      const refused = await download(two);
      expect(refused.status).toBe(503);
      expect(refused.headers['retry-after']).toMatch(/^[1-9]/);
      go();
      expect((await first).ended).toBe('clean');
      await snowcap.settled();
      const second = await download(two);
      expect(second.ended).toBe('clean');
      expect(second.bytes.equals(paths[1]?.body ?? Buffer.alloc(0))).toBe(true);
      await snowcap.settled();
      for (const key of keys) expect(await snowcap.services.storage.head(key)).not.toBeNull();
      expect(inBackground).toBe(0);
    },
  );
});
