import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { HOLD_BACK_BYTES } from '../../src/cache/fill/flight.ts';
import { type Download, download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { publish, type SignedPath, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache, until } from '../support/test-cache.ts';

let upstream: FaultServer;
let snowcap: TestCache;
let path: SignedPath;
let size: number;

beforeEach(async () => {
  upstream = await startFaultServer();
  snowcap = await startTestCache({ upstreams: [upstream.url], upstreamSettings: { idleTimeoutMs: 5000 } });
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

async function have(options: Parameters<typeof signedPath>[0]): Promise<void> {
  path = await signedPath(options);
  size = path.body.length;
  publish(upstream, path);
  await snowcap.get(`/${path.hash}.narinfo`);
}

function nar(
  headers: Record<string, string> = {},
  options: Parameters<typeof download>[1] = {},
): Promise<Download> {
  return download(`${snowcap.url}/${path.url}`, { headers, ...options });
}

function expectRange(seen: Download, start: number, end: number): void {
  expect(seen).toMatchObject({ status: 206, ended: 'clean' });
  expect(seen.headers['content-range']).toBe(`bytes ${start}-${end}/${size}`);
  expect(seen.headers['content-length']).toBe(String(end - start + 1));
  expect(seen.bytes.equals(path.body.subarray(start, end + 1))).toBe(true);
}

/** The requests of RFC 9110 §13 and §14 that a stored body and a cold one must answer alike. */
const RANGES: readonly (readonly [string, Record<string, string>, (seen: Download) => void])[] = [
  ['from the first byte', { range: 'bytes=0-99' }, (seen) => expectRange(seen, 0, 99)],
  ['of the middle', { range: 'bytes=1000-200000' }, (seen) => expectRange(seen, 1000, 200_000)],
  ['without an end', { range: 'bytes=250000-' }, (seen) => expectRange(seen, 250_000, size - 1)],
  ['of the whole', { range: 'bytes=0-' }, (seen) => expectRange(seen, 0, size - 1)],
  [
    'that ends past the end',
    { range: 'bytes=299000-999999999' },
    (seen) => expectRange(seen, 299_000, size - 1),
  ],
  ['of the last bytes', { range: 'bytes=-500' }, (seen) => expectRange(seen, size - 500, size - 1)],
  [
    'of more last bytes than there are',
    { range: 'bytes=-99999999' },
    (seen) => expectRange(seen, 0, size - 1),
  ],
  ['in another case', { range: 'Bytes=5-6' }, (seen) => expectRange(seen, 5, 6)],
  ['that is one of several: ignored', { range: 'bytes=0-1,5-6' }, expectWhole],
  ['in another unit: ignored', { range: 'lines=0-1' }, expectWhole],
  ['that is backwards: ignored', { range: 'bytes=9-3' }, expectWhole],
  ['that is empty: ignored', { range: 'bytes=-' }, expectWhole],
  ['past the end', { range: 'bytes=99999999-' }, expectUnsatisfiable],
  ['of no last bytes', { range: 'bytes=-0' }, expectUnsatisfiable],
  [
    'under an If-Range that holds',
    { range: 'bytes=1-2', 'if-range': '"ETAG"' },
    (seen) => expectRange(seen, 1, 2),
  ],
  ['under an If-Range of another body', { range: 'bytes=1-2', 'if-range': '"other"' }, expectWhole],
  ['under a weak If-Range', { range: 'bytes=1-2', 'if-range': 'W/"ETAG"' }, expectWhole],
  [
    'under an If-Range with a date',
    { range: 'bytes=1-2', 'if-range': 'Sat, 21 Nov 2026 07:28:00 GMT' },
    expectWhole,
  ],
];

function expectWhole(seen: Download): void {
  expect(seen).toMatchObject({ status: 200, ended: 'clean' });
  expect(seen.headers['content-range']).toBeUndefined();
  expect(seen.bytes.equals(path.body)).toBe(true);
}

function expectUnsatisfiable(seen: Download): void {
  expect(seen.status).toBe(416);
  expect(seen.headers['content-range']).toBe(`bytes */${size}`);
  expect(seen.headers['cache-control']).toBe('no-store');
}

function withEtag(headers: Record<string, string>, key = path.url): Record<string, string> {
  const etag = key.slice('nar/'.length);
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name, value.replace('ETAG', etag)]),
  );
}

describe('law 1: a range', () => {
  it.each(RANGES)('of a stored body, %s', async (_, headers, check) => {
    await have({ size: 300_000 });
    await nar();
    await snowcap.settled();
    check(await nar(withEtag(headers)));
    expect(upstream.requestsTo(`/${path.url}`)).toHaveLength(1);
  });

  it.each(RANGES)('of a cold body, %s, begins a fill of the whole', async (_, headers, check) => {
    await have({ size: 300_000 });
    check(await nar(withEtag(headers)));
    await snowcap.settled();
    expect(await snowcap.services.storage.head(path.url)).toMatchObject({ size });
    expect(upstream.requestsTo(`/${path.url}`)).toHaveLength(1);
  });

  it.each(RANGES)('of a cold body of unknown size, %s', async (_, headers, check) => {
    await have({ size: 300_000, fileFields: false, compression: 'gzip' });
    const key = await keyOf();
    publish(upstream, path, { contentLength: 'chunked', ranges: false });
    check(await download(`${snowcap.url}/${key}`, { headers: withEtag(headers, key) }));
  });

  it('on a fill in flight comes from the spool where the bytes are there', async () => {
    await have({ size: 3_000_000 });
    const end = Promise.withResolvers<void>();
    publish(upstream, path, { stallAt: 2_000_000, until: end.promise });
    let read = 0;
    const leader = nar({}, { onProgress: (bytes) => (read = bytes) });
    await until(() => read === 2_000_000);
    expectRange(await nar({ range: 'bytes=1000000-1500000' }), 1_000_000, 1_500_000);
    const waiting = nar({ range: 'bytes=1900000-2900000' });
    expect(upstream.requestsTo(`/${path.url}`)).toHaveLength(1);
    end.resolve();
    expectRange(await waiting, 1_900_000, 2_900_000);
    expectWhole(await leader);
    expect(upstream.requestsTo(`/${path.url}`)).toHaveLength(1);
  });

  it('far ahead of a fill in flight comes from the upstream, but for the last piece of the body', async () => {
    await have({ size: 8_000_000 });
    const end = Promise.withResolvers<void>();
    publish(upstream, path, [{ stallAt: 100_000, until: end.promise }, {}]);
    let read = 0;
    const leader = nar({}, { onProgress: (bytes) => (read = bytes) });
    await until(() => read === 100_000);
    expectRange(await nar({ range: 'bytes=6000000-7000000' }), 6_000_000, 7_000_000);
    let ahead = 0;
    const tail = nar({ range: 'bytes=7000000-' }, { onProgress: (bytes) => (ahead = bytes) });
    await until(() => ahead === size - HOLD_BACK_BYTES - 7_000_000);
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(ahead).toBe(size - HOLD_BACK_BYTES - 7_000_000);
    end.resolve();
    expectRange(await tail, 7_000_000, size - 1);
    expectWhole(await leader);
    await snowcap.settled();
  });

  it.each([
    ['gives none', { ranges: false }],
    ['fails', { status: 500, body: '' }],
    ['has another body by now', { body: Buffer.alloc(6_500_000) }],
    ['has a longer body by now', { body: Buffer.alloc(9_000_000) }],
  ] as const)('far ahead of a fill in flight waits for the fill where the upstream %s', async (_, answer) => {
    await have({ size: 8_000_000 });
    const end = Promise.withResolvers<void>();
    publish(upstream, path, [{ stallAt: 100_000, until: end.promise }, answer]);
    let read = 0;
    const leader = nar({}, { onProgress: (bytes) => (read = bytes) });
    await until(() => read === 100_000);
    const ranges = [nar({ range: 'bytes=6000000-7000000' }), nar({ range: 'bytes=7000000-' })];
    await until(() => upstream.requestsTo(`/${path.url}`).length >= 3);
    end.resolve();
    const [middle, tail] = await Promise.all(ranges);
    if (middle === undefined || tail === undefined) throw new Error('There are two ranges');
    expectRange(middle, 6_000_000, 7_000_000);
    expectRange(tail, 7_000_000, size - 1);
    expectWhole(await leader);
  });

  it('of the end of a body that turns out wrong is broken', async () => {
    await have({ size: 8_000_000 });
    const end = Promise.withResolvers<void>();
    publish(upstream, path, [{ stallAt: 100_000, until: end.promise, flipBitAt: 500_000 }, {}]);
    let read = 0;
    const leader = nar({}, { onProgress: (bytes) => (read = bytes) });
    await until(() => read === 100_000);
    const ends = ['bytes=7000000-', 'bytes=-70000', 'bytes=-1'].map((range) => nar({ range }));
    await until(() => upstream.requestsTo(`/${path.url}`).length === 3);
    end.resolve();
    for (const seen of await Promise.all(ends)) {
      expect(seen.status === 502 ? 'broken' : seen.ended).toBe('broken');
      expect(seen.bytes.length).toBeLessThanOrEqual(1_000_000 - HOLD_BACK_BYTES + 10_000);
    }
    expect((await leader).ended).toBe('broken');
  });
});

describe('law 1: HEAD and conditions', () => {
  it.each(['cold', 'in flight', 'stored'])(
    'HEAD of a body that is %s tells its length and downloads nothing',
    async (when) => {
      await have({ size: 300_000, compression: 'zstd' });
      const end = Promise.withResolvers<void>();
      if (when === 'in flight') {
        publish(upstream, path, { stallAt: 100_000, until: end.promise });
        let read = 0;
        void nar({}, { onProgress: (bytes) => (read = bytes) });
        await until(() => read > 0);
      }
      if (when === 'stored') await nar();
      const gets = upstream.requestsTo(`/${path.url}`, 'GET').length;
      const head = await nar({}, { method: 'HEAD' });
      expect(head.status).toBe(200);
      expect(head.headers).toMatchObject({ 'content-length': String(size), 'accept-ranges': 'bytes' });
      expect(head.headers['etag']).toBe(`"${path.url.slice('nar/'.length)}"`);
      expect(head.bytes).toHaveLength(0);
      expect(upstream.requestsTo(`/${path.url}`, 'GET')).toHaveLength(gets);
      end.resolve();
    },
  );

  it.each(['cold', 'stored'])(
    'If-None-Match with the tag of a body that is %s gets 304, with another tag the body',
    async (when) => {
      await have({ size: 1000 });
      if (when === 'stored') await nar();
      const etag = `"${path.url.slice('nar/'.length)}"`;
      for (const tag of [etag, `W/${etag}`, `"a", ${etag}`, '*']) {
        const seen = await nar({ 'if-none-match': tag });
        expect(seen.status).toBe(304);
        expect(seen.headers['etag']).toBe(etag);
      }
      expectWhole(await nar({ 'if-none-match': '"other"' }));
    },
  );

  it('If-None-Match never hides that a body is gone', async () => {
    await have({ size: 1000 });
    upstream.route(`/${path.url}`, { status: 404, body: '' });
    expect((await nar({ 'if-none-match': '*' })).status).toBe(404);
  });
});

async function keyOf(): Promise<string> {
  const text = await (await snowcap.get(`/${path.hash}.narinfo`)).text();
  return /^URL: (.*)$/m.exec(text)?.[1] ?? '';
}
