import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { download } from '../support/download.ts';
import { brotliWithLargeWindow, encodedAs, xzWithOtherCheck, zstdWithWindow } from '../support/encoded-as.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { servedKey } from '../support/replaced.ts';
import { publish, type SignedPath, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache, until } from '../support/test-cache.ts';

let upstream: FaultServer;
let snowcap: TestCache;
/** How many bodies were verified in the background. */
let inBackground: number;

beforeEach(async () => {
  upstream = await startFaultServer();
  inBackground = 0;
  snowcap = await startTestCache({
    upstreams: [upstream.url],
    storage: 'file',
    replace: ({ digestNar }) => ({
      digestNar(...parts) {
        inBackground += 1;
        return digestNar(...parts);
      },
    }),
  });
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

const logged = (message: string): boolean => snowcap.logs.some((line) => line.message.startsWith(message));

/** What the index says of the body. */
async function verificationOf(key: string): Promise<readonly (string | undefined)[]> {
  const nar = (await snowcap.services.metadata.getNar(key))?.nar;
  return [nar?.state, nar?.verification];
}

/** A right body whose zstd window takes 16 MiB: more than is decoded while it passes, less than in the background. */
async function wideWindow(fileFields: boolean): Promise<SignedPath> {
  const path = await signedPath({
    compression: 'zstd',
    size: 200_000,
    fileFields,
    url: () => 'nar/wide.nar.zst',
  });
  return encodedAs(path, await zstdWithWindow(path.nar, 24));
}

describe('law 2: a right body that cannot be decoded here', () => {
  it.each([
    ['xz', xzWithOtherCheck],
    ['br', brotliWithLargeWindow],
  ] as const)(
    'as %s at all is kept by its FileHash, neither refused nor quarantined',
    async (compression, encode) => {
      const path = await signedPath({ compression, size: 200_000, url: () => 'nar/other.nar' });
      const other = encodedAs(path, encode(path.nar));
      publish(upstream, other);
      const key = await servedKey(snowcap, other);
      expect((await download(`${snowcap.url}/${key}`)).bytes.equals(other.body)).toBe(true);
      await until(() => logged('A stored NAR cannot be verified here'));
      await snowcap.settled();
      expect(await verificationOf(key)).toEqual(['present', 'file']);
      expect(await snowcap.services.storage.head(key)).not.toBeNull();
      expect((await download(`${snowcap.url}/${key}`)).bytes.equals(other.body)).toBe(true);
      expect(upstream.requestsTo(`/${other.url}`)).toHaveLength(1);
      expect(snowcap.metric('snowcap_verification_failures_total')).toBe(0);
    },
  );

  it('while it passes is kept by its FileHash, and verified in the background, where the window is larger', async () => {
    const path = await wideWindow(true);
    publish(upstream, path);
    const key = await servedKey(snowcap, path);
    const seen = await download(`${snowcap.url}/${key}`);
    expect(seen.ended).toBe('clean');
    expect(seen.bytes.equals(path.body)).toBe(true);
    await until(async () => (await verificationOf(key))[1] === 'nar');
    expect(await verificationOf(key)).toEqual(['present', 'nar']);
    expect(inBackground).toBe(1);
    expect(snowcap.metric('snowcap_verification_failures_total')).toBe(0);
  });

  it('and has no FileHash is a fault of ours: its upstream is no liar', async () => {
    const path = await wideWindow(false);
    publish(upstream, path);
    const key = await servedKey(snowcap, path);
    const seen = await download(`${snowcap.url}/${key}`);
    expect(seen.status === 200 ? seen.ended : seen.status).toBeOneOf(['broken', 502]);
    await snowcap.settled();
    expect(await snowcap.services.storage.head(key)).toBeNull();
    expect(await verificationOf(key)).toEqual(['known', 'none']);
    expect(snowcap.metric('snowcap_verification_failures_total')).toBe(0);
    expect(logged('An upstream gave a wrong body')).toBe(false);
  });
});
