import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HOLD_BACK_BYTES } from '../../src/cache/fill/flight.ts';
import { download } from '../support/download.ts';
import { type Behaviour, type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { publish, type SignedPath, type SignedPathOptions, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache } from '../support/test-cache.ts';

const SIZE = 400_000;

/** What an upstream does wrong, by the size of the body. It gives no ranges, so that nothing can be mended. */
const LIES: readonly (readonly [string, (path: SignedPath) => Behaviour])[] = [
  ['ends early', () => ({ truncateAt: 100_000 })],
  ['ends within the last piece', ({ body }) => ({ truncateAt: body.length - 100 })],
  ['ends before the last byte', ({ body }) => ({ truncateAt: body.length - 1 })],
  ['ends early without a length', () => ({ truncateAt: 100_000, contentLength: 'close' })],
  [
    'ends within the last piece without a length',
    ({ body }) => ({ truncateAt: body.length - 100, contentLength: 'close' }),
  ],
  ['breaks a chunked body', () => ({ truncateAt: 100_000, contentLength: 'chunked' })],
  [
    'ends a chunked body cleanly, but too early',
    ({ body }) => ({ body: body.subarray(0, body.length - 7), contentLength: 'chunked' }),
  ],
  ['resets the connection', () => ({ resetAt: 100_000 })],
  ['resets the connection within the last piece', ({ body }) => ({ resetAt: body.length - 5 })],
  ['resets a body without a length', () => ({ resetAt: 100_000, contentLength: 'close' })],
  ['flips a bit early', () => ({ flipBitAt: 100 })],
  ['flips a bit in the last piece', ({ body }) => ({ flipBitAt: body.length - 20 })],
  [
    'flips a bit of a chunked body',
    ({ body }) => ({ flipBitAt: body.length - 20, contentLength: 'chunked' }),
  ],
  ['announces more than it has', ({ body }) => ({ contentLength: body.length + 100 })],
  ['announces and sends less', ({ body }) => ({ body: body.subarray(0, body.length - 100) })],
  ['announces and sends more', ({ body }) => ({ body: Buffer.concat([body, Buffer.alloc(100)]) })],
  [
    'sends more, chunked',
    ({ body }) => ({ body: Buffer.concat([body, Buffer.alloc(100)]), contentLength: 'chunked' }),
  ],
  [
    'sends far more, chunked',
    ({ body }) => ({ body: Buffer.concat([body, Buffer.alloc(2_000_000)]), contentLength: 'chunked' }),
  ],
  ['stalls', () => ({ stallAt: 100_000 })],
  ['stalls before the last byte', ({ body }) => ({ stallAt: body.length - 1 })],
  ['sends nothing at all', () => ({ body: '' })],
  ['sends nothing at all, chunked', () => ({ body: '', contentLength: 'chunked' })],
];

/** What is known of the body before it comes. */
const KNOWLEDGE: readonly (readonly [string, SignedPathOptions])[] = [
  ['a FileSize', { compression: 'none' }],
  ['a FileSize, decoded inline', { compression: 'zstd' }],
  ['a FileSize, decoded later', { compression: 'xz', prose: true }],
  ['neither FileHash nor FileSize', { compression: 'none', fileFields: false }],
  ['neither FileHash nor FileSize, decoded inline', { compression: 'gzip', fileFields: false }],
];

let upstream: FaultServer;
let snowcap: TestCache;
let paths = 0;

beforeAll(async () => {
  upstream = await startFaultServer();
  snowcap = await startTestCache({ upstreams: [upstream.url], upstreamSettings: { idleTimeoutMs: 150 } });
});

afterAll(async () => {
  await snowcap.close();
  await upstream.close();
});

/** A path of its own, which the upstream lies about, and the key under which Snowcap gives its NAR. */
async function liedAbout(
  options: SignedPathOptions,
  lie: (path: SignedPath) => Behaviour,
): Promise<{ readonly path: SignedPath; readonly key: string }> {
  paths += 1;
  const path = await signedPath({ size: SIZE, ...options, name: `path-${paths}`, seed: paths });
  publish(upstream, path, { ...lie(path), ranges: false });
  const text = await (await snowcap.get(`/${path.hash}.narinfo`)).text();
  return { path, key: /^URL: (.*)$/m.exec(text)?.[1] ?? `no URL in ${text}` };
}

describe.each(KNOWLEDGE)('law 1, with %s: a body is whole or an error', (_, options) => {
  it.each(LIES)('for leader and followers where the upstream %s', async (__, lie) => {
    const { path, key } = await liedAbout(options, lie);

    const seen = await Promise.all([1, 2, 3].map(() => download(`${snowcap.url}/${key}`)));
    for (const { status, ended, bytes, headers } of seen) {
      if (status === 200) {
        expect(ended).toBe('broken');
        // Where nothing tells the true size, the last piece is that of the size announced; without one, of what came.
        const announced = Number(headers['content-length'] ?? Infinity);
        const unknown = options.fileFields === false && options.compression !== 'none';
        const most = unknown ? announced : Math.min(announced, path.body.length);
        expect(bytes.length).toBeLessThanOrEqual(most - HOLD_BACK_BYTES);
      } else {
        expect([502, 504]).toContain(status);
        expect(headers['cache-control']).toBe('no-store');
        expect(bytes.toString()).toMatch(
          /^(body_mismatch|upstream_unreachable|upstream_timeout|upstream_invalid): /,
        );
      }
    }
    expect(upstream.requestsTo(`/${path.url}`, 'GET').length).toBeLessThanOrEqual(3);
    await snowcap.settled();
    expect(await snowcap.services.storage.head(key)).toBeNull();
    expect((await snowcap.services.metadata.getNar(key))?.nar.state).toBe('known');
    expect(await snowcap.spooled()).toEqual([]);

    publish(upstream, path);
    const after = await download(`${snowcap.url}/${key}`);
    expect(after).toMatchObject({ status: 200, ended: 'clean' });
    expect(after.bytes.equals(path.body)).toBe(true);
    await snowcap.settled();
    expect((await snowcap.services.metadata.getNar(key))?.nar.state).toBe('present');
  });
});

/** The lies that make sense for a body of 3000 bytes too. */
const SMALL_LIES: readonly (readonly [string, (path: SignedPath) => Behaviour])[] = [
  ['ends early', () => ({ truncateAt: 1000 })],
  ['ends early without a length', () => ({ truncateAt: 1000, contentLength: 'close' })],
  ['breaks a chunked body', () => ({ truncateAt: 1000, contentLength: 'chunked' })],
  ['resets the connection', () => ({ resetAt: 1000 })],
  ['flips a bit', () => ({ flipBitAt: 2000 })],
  ['flips a bit of a chunked body', () => ({ flipBitAt: 2000, contentLength: 'chunked' })],
  ['sends more, chunked', ({ body }) => ({ body: Buffer.concat([body, body]), contentLength: 'chunked' })],
  ['sends nothing at all, chunked', () => ({ body: '', contentLength: 'chunked' })],
  ['stalls', () => ({ stallAt: 1000 })],
];

describe.each(KNOWLEDGE)(
  'law 1, with %s: a small body that is wrong is an error with a status',
  (_, options) => {
    it.each(SMALL_LIES)('where the upstream %s', async (__, lie) => {
      const { key } = await liedAbout({ ...options, size: 3000, prose: false }, lie);
      const seen = await Promise.all([1, 2].map(() => download(`${snowcap.url}/${key}`)));
      for (const { status, ended, bytes } of seen) {
        expect([502, 504]).toContain(status);
        expect(ended).toBe('clean');
        expect(bytes.toString()).toMatch(/^[a-z_]+: .* \(request [0-9a-f-]+\)\n$/);
      }
      await snowcap.settled();
      expect(await snowcap.services.storage.head(key)).toBeNull();
    });
  },
);
