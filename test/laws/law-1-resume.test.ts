import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Download, download } from '../support/download.ts';
import { type Behaviour, type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { publish, type SignedPath, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache } from '../support/test-cache.ts';

let upstream: FaultServer;
let snowcap: TestCache;
let path: SignedPath;

beforeEach(async () => {
  upstream = await startFaultServer();
  snowcap = await startTestCache({ upstreams: [upstream.url] });
  path = await signedPath({ size: 1_000_000, compression: 'zstd' });
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

async function nar(...behaviours: readonly Behaviour[]): Promise<Download> {
  publish(upstream, path, behaviours);
  await snowcap.get(`/${path.hash}.narinfo`);
  return await download(`${snowcap.url}/${path.url}`);
}

const TAGGED = { headers: { etag: '"one"' } };

describe('law 1: a body whose connection breaks', () => {
  it.each([
    ['by a clean end', { truncateAt: 300_000 }],
    ['by a reset', { resetAt: 300_000 }],
    ['by standing still', { stallAt: 300_000 }],
    ['in its last byte', { truncateAt: 999_999 }],
  ] as const)('%s is taken up again by a range, unseen by the client', async (_, fault) => {
    const seen = await nar({ ...TAGGED, ...fault }, TAGGED);
    expect(seen).toMatchObject({ status: 200, ended: 'clean' });
    expect(seen.bytes.equals(path.body)).toBe(true);
    const asked = upstream.requestsTo(`/${path.url}`);
    expect(asked.map(({ headers }) => headers.range)).toEqual([
      undefined,
      expect.stringMatching(/^bytes=\d+-$/),
    ]);
    await snowcap.settled();
    expect(await snowcap.services.storage.head(path.url)).toMatchObject({ size: path.body.length });
  });

  it('again and again is taken up each time, as long as it goes on', async () => {
    const seen = await nar({ ...TAGGED, truncateAt: 100_000 });
    expect(seen).toMatchObject({ status: 200, ended: 'clean' });
    expect(seen.bytes.equals(path.body)).toBe(true);
    expect(upstream.requestsTo(`/${path.url}`).length).toBeGreaterThan(9);
  });

  it('without going on is given up', async () => {
    const seen = await nar({ ...TAGGED, truncateAt: 100_000 }, { ...TAGGED, truncateAt: 0 });
    expect(seen.ended).toBe('broken');
    expect(upstream.requestsTo(`/${path.url}`).length).toBeLessThan(12);
  });

  it.each([
    ['has another tag', { headers: { etag: '"two"' } }],
    ['is the whole', { ...TAGGED, ranges: false }],
    ['covers other bytes', { headers: { etag: '"one"', 'content-range': 'bytes 0-99/1000000' } }],
    ['has another size', { ...TAGGED, body: Buffer.alloc(2_000_000) }],
    ['is an error', { status: 404, body: '' }],
  ] as const)('is not taken up where the answer %s', async (_, second) => {
    const seen = await nar({ ...TAGGED, truncateAt: 300_000 }, second);
    expect(seen).toMatchObject({ status: 200, ended: 'broken' });
    expect(seen.bytes.equals(path.body.subarray(0, seen.bytes.length))).toBe(true);
    await snowcap.settled();
    expect(await snowcap.services.storage.head(path.url)).toBeNull();
  });

  it('and is taken up with other bytes is found out before its last piece', async () => {
    const seen = await nar({ ...TAGGED, truncateAt: 300_000 }, { ...TAGGED, flipBitAt: 600_000 });
    expect(seen).toMatchObject({ status: 200, ended: 'broken' });
    expect(seen.bytes.length).toBeLessThanOrEqual(path.body.length - 64 * 1024);
  });
});
