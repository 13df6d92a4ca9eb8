import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { HOLD_BACK_BYTES } from '../../src/cache/fill/flight.ts';
import { MetadataError } from '../../src/database/metadata-store.ts';
import { StorageError } from '../../src/storage/blob-store.ts';
import { type Download, download } from '../support/download.ts';
import { type Behaviour, type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { servedKey, withMethods } from '../support/replaced.ts';
import { publish, type SignedPath, signedPath } from '../support/signed-path.ts';
import {
  openDescriptors,
  startTestCache,
  type TestCache,
  type TestCacheOptions,
  until,
} from '../support/test-cache.ts';

let upstream: FaultServer;
let snowcap: TestCache;
let path: SignedPath;

beforeEach(async () => {
  upstream = await startFaultServer();
  path = await signedPath({ size: 2_000_000 });
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

async function start(
  options: TestCacheOptions,
  behaviour: Behaviour | readonly Behaviour[] = {},
): Promise<void> {
  snowcap = await startTestCache({ upstreams: [upstream.url], ...options });
  publish(upstream, path, behaviour);
  await snowcap.get(`/${path.hash}.narinfo`);
}

function nar(
  headers: Record<string, string> = {},
  options: Parameters<typeof download>[1] = {},
): Promise<Download> {
  return download(`${snowcap.url}/${path.url}`, { headers, ...options });
}

/** Why a body that a path vouches for is not kept. */
const REASONS: readonly (readonly [string, TestCacheOptions])[] = [
  ['it is larger than the budget', { settings: { maxSize: 1_000_000 } }],
  ['the spool has no room', { settings: { spoolLimit: 1000 } }],
  [
    'there is no spool, nor memory for the put',
    { replace: ({ storage }) => ({ spool: null, storage: withMethods(storage, { putMemory: 2 ** 30 }) }) },
  ],
  [
    'the spool cannot be written',
    {
      replace: ({ spool }) => ({
        spool: {
          description: 'broken',
          close: () => spool?.close() ?? Promise.resolve(),
          create: () => Promise.reject(new StorageError('Cannot create')),
        },
      }),
    },
  ],
  [
    'another instance fills it',
    {
      settings: { fillWaitMs: 100 },
      replace: ({ locks }) => ({
        locks: {
          description: 'taken',
          acquire: () => Promise.resolve(null),
          ping: () => locks.ping(),
          close: () => locks.close(),
        },
      }),
    },
  ],
];

describe.each(REASONS)('law 1: a body that is not kept because %s', (_, options) => {
  it('passes whole to each client', async () => {
    await start(options);
    for (const seen of await Promise.all([nar(), nar()])) {
      expect(seen).toMatchObject({ status: 200, ended: 'clean' });
      expect(seen.bytes.equals(path.body)).toBe(true);
      expect(seen.headers).toMatchObject({
        'content-length': String(path.body.length),
        'cache-control': 'no-store',
      });
    }
    await snowcap.settled();
    expect(await snowcap.services.storage.head(path.url)).toBeNull();
  });

  it.each([
    ['flips a bit', { flipBitAt: 100 }],
    ['flips a bit in the last piece', { flipBitAt: 1_999_990 }],
    ['ends early', { truncateAt: 500_000, ranges: false }],
    ['ends early without a length', { truncateAt: 500_000, contentLength: 'close' }],
    ['stalls', { stallAt: 500_000 }],
  ] as const)('is broken where the upstream %s', async (__, fault) => {
    await start(options, fault);
    const seen = await nar();
    expect(seen).toMatchObject({ status: 200, ended: 'broken' });
    expect(seen.bytes.length).toBeLessThanOrEqual(path.body.length - HOLD_BACK_BYTES);
    await snowcap.settled();
  });

  it('gives the ranges of a right body, and never the last byte of a wrong one', async () => {
    await start(options);
    const ranges = [
      ['bytes=10-99', 10, 99],
      ['bytes=1500000-', 1_500_000, path.body.length - 1],
      ['bytes=-5', path.body.length - 5, path.body.length - 1],
    ] as const;
    for (const [range, from, to] of ranges) {
      const seen = await nar({ range });
      expect(seen).toMatchObject({ status: 206, ended: 'clean' });
      expect(seen.headers['content-range']).toBe(`bytes ${from}-${to}/${path.body.length}`);
      expect(seen.bytes.equals(path.body.subarray(from, to + 1))).toBe(true);
    }
    expect((await nar({ range: 'bytes=99999999-' })).status).toBe(416);
    publish(upstream, path, { flipBitAt: 100 });
    for (const range of ['bytes=0-', 'bytes=1500000-', 'bytes=1999999-99999999', 'bytes=-5']) {
      const seen = await nar({ range });
      expect(seen.status === 206 ? seen.ended : seen.status).toBeOneOf(['broken', 502]);
    }
  });

  it('leaves nothing behind where the client leaves', async () => {
    const before = await openDescriptors();
    await start(options, { bytesPerSecond: 4_000_000 });
    expect((await nar({}, { leaveAfter: 300_000 })).ended).toBe('broken');
    await snowcap.settled();
    await until(() => upstream.requestsTo(`/${path.url}`).every(({ state }) => state !== 'open'));
    await until(async () => (await openDescriptors()) <= before + 12);
  });
});

describe('law 1: a piece of a body that is not kept', () => {
  const unsaved: TestCacheOptions = { settings: { maxSize: 1_000_000 } };

  it.each<readonly [string, Behaviour]>([
    ['chunked', { contentLength: 'chunked' }],
    ['until the connection ends', { contentLength: 'close' }],
    ['under a Content-Encoding', { contentEncoding: 'gzip' }],
  ])('is cut here where the upstream gives the whole instead, %s', async (_, how) => {
    await start(unsaved, { ...how, ranges: false, flipBitAt: 1_999_990 });
    const seen = await nar({ range: 'bytes=10-99' });
    expect(seen).toMatchObject({ status: 206, ended: 'clean' });
    expect(seen.headers['content-range']).toBe(`bytes 10-99/${path.body.length}`);
    expect(seen.bytes.equals(path.body.subarray(10, 100))).toBe(true);
  });

  it.each<readonly [string, string, Behaviour]>([
    ['a shorter body', 'bytes=0-99', {}],
    ['a body in which there is nothing so far', 'bytes=500-599', {}],
    ['a shorter piece', 'bytes=0-199', { status: 206, headers: { 'Content-Range': 'bytes 0-99/*' } }],
  ])('is an error where the upstream answers for %s', async (_, range, how) => {
    await start(unsaved, { ...how, body: path.body.subarray(0, 100) });
    const seen = await nar({ range });
    expect(seen.status).toBe(502);
    expect(seen.bytes.toString()).toMatch(/^body_mismatch: /);
    expect(snowcap.metric('snowcap_verification_failures_total', { reason: 'size' })).toBe(1);
  });
});

describe('law 1: a wrong body that is not kept', () => {
  it.each<readonly [string, TestCacheOptions]>([
    ['that a path vouches for', { settings: { maxSize: 1_000_000 } }],
    ['that only its key vouches for', {}],
  ])('%s is counted and logged as an error', async (_, options) => {
    await start(options, { flipBitAt: 100 });
    if (options.settings === undefined) {
      await snowcap.close();
      snowcap = await startTestCache({ upstreams: [upstream.url] });
      upstream.route(`/${path.hash}.narinfo`, { status: 404 });
    }
    expect((await nar()).ended).toBe('broken');
    expect(snowcap.metric('snowcap_verification_failures_total')).toBe(1);
    expect(snowcap.logs.filter(({ level }) => level === 'error').map(({ fields }) => fields)).toMatchObject([
      { key: path.url, upstream: upstream.url, reason: 'file-hash' },
    ]);
    expect(snowcap.metric('snowcap_fills_total', { result: 'verified' })).toBe(0);
  });
});

describe('law 1: a body of unknown size that is not kept', () => {
  it.each(['bytes=0-99999999', 'bytes=150000-', 'bytes=-5'])(
    'gives %s of a wrong body never cleanly',
    async (range) => {
      path = await signedPath({
        size: 200_000,
        compression: 'gzip',
        fileFields: false,
        url: () => 'nar/opaque',
      });
      await start({ settings: { maxSize: 1000 } });
      const key = await servedKey(snowcap, path);
      const right = await download(`${snowcap.url}/${key}`, { headers: { range } });
      expect(right).toMatchObject({ status: 206, ended: 'clean' });
      expect(right.bytes.length).toBeGreaterThan(0);
      publish(upstream, path, { flipBitAt: 199_000 });
      const wrong = await download(`${snowcap.url}/${key}`, { headers: { range } });
      expect(wrong.status === 206 ? wrong.ended : wrong.status).toBeOneOf(['broken', 502]);
      expect(snowcap.metric('snowcap_fills_total', { result: 'verified' })).toBe(0);
    },
  );
});

describe('law 1: a fill whose helper fails', () => {
  it.each([
    [
      'storage',
      {
        replace: ({ storage }) => ({
          storage: withMethods(storage, { put: () => Promise.reject(new StorageError('disk full')) }),
        }),
      },
    ],
    [
      'index',
      {
        replace: ({ metadata }) => ({
          metadata: withMethods(metadata, { markPresent: () => Promise.reject(new MetadataError('locked')) }),
        }),
      },
    ],
  ] as readonly (readonly [string, TestCacheOptions])[])(
    'in its last step, the %s, still gives every byte',
    async (_, options) => {
      await start(options);
      const seen = await Promise.all([nar(), nar()]);
      for (const one of seen) {
        expect(one).toMatchObject({ status: 200, ended: 'clean' });
        expect(one.bytes.equals(path.body)).toBe(true);
      }
      await snowcap.settled();
      expect(snowcap.metric('snowcap_background_failures_total', { what: 'commit' })).toBe(1);
      expect(await snowcap.spooled()).toEqual([]);
    },
  );

  it('in the middle, the spool, still gives every byte, and stores nothing', async () => {
    let appended = 0;
    await start({
      checkpoint: (step) => {
        if (step === 'spool:append' && (appended += 1) === 10) throw new StorageError('no space left');
      },
    });
    const seen = await Promise.all([nar(), nar(), nar({ range: 'bytes=1000000-' })]);
    for (const [at, one] of seen.entries()) {
      expect(one).toMatchObject({ status: at === 2 ? 206 : 200, ended: 'clean' });
      expect(one.bytes.equals(at === 2 ? path.body.subarray(1_000_000) : path.body)).toBe(true);
    }
    await snowcap.settled();
    expect(await snowcap.services.storage.head(path.url)).toBeNull();
    expect(await snowcap.spooled()).toEqual([]);
  });
});
