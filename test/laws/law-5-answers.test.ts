import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { generateSecretKey } from '../../src/nix/signing-key.ts';
import { type Download, download } from '../support/download.ts';
import { type Behaviour, type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { servedKey } from '../support/replaced.ts';
import { publish, type SignedPath, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache } from '../support/test-cache.ts';

/** What an upstream makes of its own nix-cache-info, and of the thing that is asked for. */
interface Case {
  readonly name: string;
  readonly cacheInfo: Behaviour;
  readonly answer: Behaviour;
  /** What Snowcap answers where this upstream is the only one, or the others say no. */
  readonly status: 404 | 502 | 504;
}

const READABLE: Behaviour = { body: 'StoreDir: /nix/store\n' };
const UNREADABLE: Behaviour = { status: 403, body: 'no' };

const STATUSES: readonly Case[] = [
  { name: 'answers 404', cacheInfo: READABLE, answer: { status: 404 }, status: 404 },
  { name: 'answers 410', cacheInfo: READABLE, answer: { status: 410 }, status: 404 },
  { name: 'answers 403, nix-cache-info readable', cacheInfo: READABLE, answer: { status: 403 }, status: 404 },
  {
    name: 'answers 403, also for nix-cache-info',
    cacheInfo: UNREADABLE,
    answer: { status: 403 },
    status: 502,
  },
  {
    name: 'answers 403, nix-cache-info missing',
    cacheInfo: { status: 404 },
    answer: { status: 403 },
    status: 502,
  },
  {
    name: 'answers 403, nix-cache-info at fault',
    cacheInfo: { status: 500 },
    answer: { status: 403 },
    status: 502,
  },
  { name: 'answers 401', cacheInfo: UNREADABLE, answer: { status: 401 }, status: 502 },
  { name: 'answers 400', cacheInfo: READABLE, answer: { status: 400 }, status: 502 },
  { name: 'answers 500', cacheInfo: READABLE, answer: { status: 500 }, status: 502 },
  { name: 'answers 503', cacheInfo: READABLE, answer: { status: 503 }, status: 502 },
  {
    name: 'answers 503 with a long Retry-After',
    cacheInfo: READABLE,
    answer: { status: 503, headers: { 'Retry-After': '900' } },
    status: 502,
  },
  {
    name: 'answers 429 with a long Retry-After',
    cacheInfo: READABLE,
    answer: { status: 429, headers: { 'Retry-After': '900' } },
    status: 502,
  },
  { name: 'answers 204', cacheInfo: READABLE, answer: { status: 204 }, status: 502 },
  { name: 'resets the connection', cacheInfo: READABLE, answer: { resetAt: 'headers' }, status: 502 },
  { name: 'never answers', cacheInfo: READABLE, answer: { stallAt: 'headers' }, status: 504 },
];

let upstream: FaultServer;
let partner: FaultServer;
let snowcap: TestCache;

const started: TestCache[] = [];

async function start(...servers: readonly FaultServer[]): Promise<void> {
  snowcap = await startTestCache({ upstreams: servers.map(({ url }) => url), storage: 'file' });
  started.push(snowcap);
}

beforeEach(async () => {
  upstream = await startFaultServer();
  partner = await startFaultServer();
  partner.route('/nix-cache-info', READABLE);
});

afterEach(async () => {
  await Promise.all(started.splice(0).map((each) => each.close()));
  await upstream.close();
  await partner.close();
});

function expectRefusal(seen: Download, status: number): void {
  expect(seen).toMatchObject({ status, ended: 'clean' });
  expect(seen.headers['cache-control']).toBe('no-store');
  expect(seen.headers.etag).toBeUndefined();
  expect(seen.headers['retry-after']).toBeUndefined();
}

/** Asks one cache for each list of upstreams, all at the same time: those that wait do so together. */
async function expectOfEach(
  upstreams: readonly (readonly FaultServer[])[],
  path: string,
  status: number,
  method: 'GET' | 'HEAD' = 'GET',
): Promise<void> {
  for (const servers of upstreams) await start(...servers);
  const seen = await Promise.all(started.map(({ url }) => download(`${url}${path}`, { method })));
  expect(seen).toHaveLength(upstreams.length);
  for (const each of seen) expectRefusal(each, status);
}

describe.each(STATUSES)('law 5, a narinfo, where an upstream $name', ({ cacheInfo, answer, status }) => {
  let path: SignedPath;

  beforeEach(async () => {
    path = await signedPath();
    upstream.route('/nix-cache-info', cacheInfo);
    upstream.route(`/${path.hash}.narinfo`, { body: '', ...answer });
  });

  it(`is ${status} with nobody else`, async () => {
    await start(upstream);
    expectRefusal(await download(`${snowcap.url}/${path.hash}.narinfo`), status);
  });

  it(`is ${status} with another that says no, whichever is asked first`, async () => {
    await expectOfEach(
      [
        [upstream, partner],
        [partner, upstream],
      ],
      `/${path.hash}.narinfo`,
      status,
    );
  });

  it('is found with another that has it', async () => {
    publish(partner, path);
    await start(upstream, partner);
    const seen = await download(`${snowcap.url}/${path.hash}.narinfo`);
    expect(seen.status).toBe(200);
    expect(seen.bytes.toString()).toContain(`StorePath: ${path.storePath}\n`);
  });
});

describe.each(STATUSES)('law 5, a NAR that no path claims, where an upstream $name', (one) => {
  let path: SignedPath;

  beforeEach(async () => {
    path = await signedPath();
    upstream.route('/nix-cache-info', one.cacheInfo);
    upstream.route(`/${path.url}`, { body: '', ...one.answer });
  });

  it.each(['GET', 'HEAD'] as const)(
    `%s is ${one.status}, alone and beside one that says no`,
    async (method) => {
      await expectOfEach([[upstream], [partner, upstream]], `/${path.url}`, one.status, method);
    },
  );

  it('passes through from another that has it, and is not to be kept by anybody', async () => {
    publish(partner, path);
    await start(upstream, partner);
    const seen = await download(`${snowcap.url}/${path.url}`);
    expect(seen).toMatchObject({ status: 200, ended: 'clean' });
    expect(seen.bytes.equals(path.body)).toBe(true);
    expect(seen.headers['cache-control']).toBe('no-store');
  });
});

describe.each(STATUSES)('law 5, a NAR whose path is known, where its source $name', (one) => {
  let path: SignedPath;
  let key: string;

  beforeEach(async () => {
    path = await signedPath();
    publish(upstream, path);
    upstream.route('/nix-cache-info', one.cacheInfo);
    await start(upstream, partner);
    key = await servedKey(snowcap, path);
    upstream.route(`/${path.url}`, { body: '', ...one.answer });
  });

  it.each(['GET', 'HEAD'] as const)(`%s is ${one.status} where no other has it`, async (method) => {
    expectRefusal(await download(`${snowcap.url}/${key}`, { method }), one.status);
  });

  it('comes from another that has it, and is stored', async () => {
    publish(partner, path);
    const seen = await download(`${snowcap.url}/${key}`);
    expect(seen).toMatchObject({ status: 200, ended: 'clean' });
    expect(seen.bytes.equals(path.body)).toBe(true);
    await snowcap.settled();
    expect((await snowcap.services.storage.head(key))?.size).toBe(path.body.length);
    expect(snowcap.logs.filter(({ message }) => message === 'Narinfo is refused')).toEqual([]);
  });
});

describe('law 5: a narinfo that may not be taken counts as no, and the log says why', () => {
  const BAD: readonly (readonly [string, (path: SignedPath) => Promise<Behaviour>, RegExp])[] = [
    [
      'is signed by a key that is not trusted',
      async () => ({ body: (await signedPath({ key: await generateSecretKey('stranger-1') })).narInfo }),
      /no valid signature by a trusted key \(it has: stranger-1\)/,
    ],
    [
      'has no signature',
      async () => ({ body: (await signedPath({ key: null })).narInfo }),
      /has no signature/,
    ],
    [
      'has a signature for other facts',
      async (path) => {
        const other = await signedPath({ seed: 2 });
        const signature = /^Sig: .*$/m.exec(other.narInfo)?.[0] ?? '';
        return { body: path.narInfo.replace(/^Sig: .*$/m, signature) };
      },
      /no valid signature by a trusted key/,
    ],
    ['is not one', async () => ({ body: '<html>Sign in first</html>' }), /narinfo/i],
    ['is empty', async () => ({ body: '' }), /narinfo|StorePath/i],
    [
      'ends in the middle of a field',
      async (path) => ({ body: path.narInfo.slice(0, path.narInfo.indexOf('NarSize')) }),
      /NarSize/,
    ],
    [
      'is of another store',
      async (path) => ({ body: path.narInfo.replaceAll('/nix/store', '/gnu/store') }),
      /gnu\/store/,
    ],
    [
      'is of another path',
      async () => ({ body: (await signedPath({ name: 'other' })).narInfo }),
      /it is the narinfo of .*-other/,
    ],
    [
      'has a compression that nobody here can undo',
      async (path) => ({ body: path.narInfo.replace('Compression: none', 'Compression: lzip') }),
      /lzip/,
    ],
    [
      'is larger than a narinfo can be',
      async () => ({ body: Buffer.alloc(10 * 2 ** 20, 'x') }),
      /larger than/,
    ],
    [
      'is made to be larger than a narinfo can be when it is unpacked',
      async () => ({ body: Buffer.alloc(300 * 2 ** 20), contentEncoding: 'gzip', ranges: false }),
      /larger|more than|limit/i,
    ],
  ];

  it.each(BAD)('where it %s', async (_, behaviour, reason) => {
    const path = await signedPath();
    upstream.route(`/${path.hash}.narinfo`, await behaviour(path));
    await start(upstream);
    expectRefusal(await download(`${snowcap.url}/${path.hash}.narinfo`), 404);
    const refusals = snowcap.logs.filter(({ message }) => message === 'Narinfo is refused');
    expect(refusals.map(({ fields }) => String(fields['reason']))).toEqual([expect.stringMatching(reason)]);

    publish(partner, path);
    await start(upstream, partner);
    expect((await download(`${snowcap.url}/${path.hash}.narinfo`)).status).toBe(200);
  });
});

describe('law 5: of several upstreams', () => {
  it('a refusal of one does not hide the fault of another', async () => {
    const unsigned = await signedPath({ key: null });
    publish(upstream, unsigned);
    partner.route(`/${unsigned.hash}.narinfo`, { status: 500, body: '' });
    await start(upstream, partner);
    expectRefusal(await download(`${snowcap.url}/${unsigned.hash}.narinfo`), 502);
  });

  it('one whose narinfo cannot be had may have the NAR that the others lost', async () => {
    const path = await signedPath();
    publish(upstream, path);
    await start(upstream, partner);
    const key = await servedKey(snowcap, path);
    upstream.route(`/${path.url}`, { status: 404, body: '' });
    partner.route(`/${path.hash}.narinfo`, { status: 500, body: '' });
    for (const method of ['GET', 'HEAD'] as const)
      expectRefusal(await download(`${snowcap.url}/${key}`, { method }), 502);
  });

  it('all that time out are 504, and one that fails otherwise makes it 502', async () => {
    upstream.route(/narinfo$/, { stallAt: 'headers' });
    partner.route(/narinfo$/, { stallAt: 'headers' });
    await start(upstream, partner);
    expectRefusal(await download(`${snowcap.url}/${'0'.repeat(32)}.narinfo`), 504);
    partner.route(/narinfo$/, { status: 500, body: '' });
    expectRefusal(await download(`${snowcap.url}/${'0'.repeat(32)}.narinfo`), 502);
  });

  it('none at all means that nothing but what is stored is there', async () => {
    await start();
    expectRefusal(await download(`${snowcap.url}/${'0'.repeat(32)}.narinfo`), 404);
    expectRefusal(await download(`${snowcap.url}/nar/${'0'.repeat(52)}.nar.xz`), 404);
  });
});

describe('law 5: a narinfo that did not arrive whole is a fault', () => {
  it.each<readonly [string, Behaviour, number]>([
    ['ends early', { truncateAt: 100 }, 502],
    ['is reset', { resetAt: 100 }, 502],
    ['stalls', { stallAt: 100 }, 504],
  ])('where it %s', async (_, behaviour, status) => {
    const path = await signedPath();
    upstream.route(`/${path.hash}.narinfo`, { body: path.narInfo, ...behaviour });
    await start(upstream, partner);
    expectRefusal(await download(`${snowcap.url}/${path.hash}.narinfo`), status);
  });
});
