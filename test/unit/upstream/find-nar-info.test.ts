import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { TransportError } from '../../../src/upstream/transport.ts';
import { HASH, acceptAll, narInfoText, settle, world } from './fakes.ts';
import type { Answer, Script } from './fakes.ts';

const A = 'http://a.test';
const B = 'http://b.test';
const at = (upstream: string): string => `${upstream}/${HASH}.narinfo`;
const NARINFO: Answer = { body: narInfoText() };
const refused = (): TransportError => new TransportError('connect', 'Cannot connect: refused');

describe('One upstream', () => {
  test('that has the path gives what was accepted', async () => {
    const { transport, upstreams } = world([`${A}?unsigned=allow`]);
    transport.answer(at(A), NARINFO);
    const found = await upstreams.findNarInfo(HASH, ({ info, upstream, allowUnsigned }) =>
      Promise.resolve({ accepted: true, value: { path: info.storePath, upstream, allowUnsigned } }),
    );
    expect(found).toEqual({
      kind: 'found',
      upstream: A,
      value: { path: `/nix/store/${HASH}-hello`, upstream: A, allowUnsigned: true },
    });
    expect(transport.to(at(A))[0]?.request.headers['accept-encoding']).toBe('identity');
  });

  test.each([404, 410])('that answers %i says no', async (status) => {
    const { transport, upstreams } = world([A]);
    transport.answer(at(A), { status });
    expect(await upstreams.findNarInfo(HASH, acceptAll)).toEqual({ kind: 'missing', refused: [] });
  });

  test.each([401, 407, 400, 202, 501, 505, 304])('that answers %i is a fault at once', async (status) => {
    const { transport, upstreams } = world([A]);
    transport.answer(at(A), { status });
    expect(await upstreams.findNarInfo(HASH, acceptAll)).toMatchObject({
      kind: 'fault',
      fault: { reason: 'status', message: `${A} answered ${status}` },
    });
    expect(transport.to(at(A))).toHaveLength(1);
  });

  test.each([
    ['none is configured', [] as string[], 'missing'],
    ['it is configured', [A], 'found'],
  ])('or no upstream: %s', async (_name, urls, kind) => {
    const { transport, upstreams } = world(urls);
    transport.answer(at(A), NARINFO);
    expect((await upstreams.findNarInfo(HASH, acceptAll)).kind).toBe(kind);
  });
});

describe('A 403', () => {
  test('is "no" where the nix-cache-info can be read, which is asked once', async () => {
    const { transport, upstreams } = world([`${A}?priority=1`]);
    transport.answer(at(A), { status: 403 });
    transport.answer(`${A}/nix-cache-info`, { body: 'StoreDir: /nix/store\n' });
    for (let i = 0; i < 3; i += 1)
      expect((await upstreams.findNarInfo(HASH, acceptAll)).kind).toBe('missing');
    expect(transport.to(`${A}/nix-cache-info`)).toHaveLength(1);
  });

  test.each<[string, Script]>([
    ['is forbidden too', { status: 403 }],
    ['is not there', { status: 404 }],
    ['fails', { status: 500 }],
    ['cannot be had', refused()],
  ])('is a fault where the nix-cache-info %s', async (_name, script) => {
    const { transport, upstreams } = world([`${A}?priority=1`]);
    transport.answer(at(A), { status: 403 });
    transport.answer(`${A}/nix-cache-info`, script);
    expect(await upstreams.findNarInfo(HASH, acceptAll)).toMatchObject({
      kind: 'fault',
      fault: { reason: 'status' },
    });
  });

  test('is judged with the same credentials', async () => {
    const { transport, upstreams } = world(['http://user:pw@a.test?priority=1']);
    transport.answer(at(A), { status: 403 });
    transport.answer(`${A}/nix-cache-info`, { body: 'StoreDir: /nix/store\n' });
    await upstreams.findNarInfo(HASH, acceptAll);
    expect(transport.to(`${A}/nix-cache-info`)[0]?.request.headers['authorization']).toBe(
      'Basic dXNlcjpwdw==',
    );
  });

  test('is judged anew when what is known is old', async () => {
    const { clock, transport, upstreams } = world([`${A}?priority=1`]);
    transport.answer(at(A), { status: 403 });
    transport.answer(`${A}/nix-cache-info`, { body: 'StoreDir: /nix/store\n' }, { status: 403 });
    expect((await upstreams.findNarInfo(HASH, acceptAll)).kind).toBe('missing');
    await clock.advance(15 * 60_000);
    expect((await upstreams.findNarInfo(HASH, acceptAll)).kind).toBe('fault');
  });
});

describe('An answer is refused, and counts as "no",', () => {
  test.each<[string, Answer, RegExp]>([
    ['when it is malformed', { body: 'nonsense' }, /Cannot parse narinfo/],
    ['when it is an HTML page', { body: '<html>\n</html>\n' }, /Cannot parse narinfo/],
    [
      'when it is of another path',
      { body: narInfoText({ StorePath: `/nix/store/${'0'.repeat(32)}-other` }) },
      /narinfo of \/nix\/store\/0/,
    ],
    [
      'when it is of another store',
      { body: narInfoText({ StorePath: `/gnu/store/${HASH}-hello` }) },
      /StorePath/,
    ],
    [
      'when it is larger than 1 MiB',
      { body: `${narInfoText()}X: ${'x'.repeat(1 << 20)}\n` },
      /larger than 1048576/,
    ],
    [
      'when it grows larger than 1 MiB from its encoding',
      {
        body: gzipSync(`${narInfoText()}X: ${'x'.repeat(1 << 20)}\n`),
        headers: { 'content-encoding': 'gzip' },
      },
      /./,
    ],
  ])('%s', async (_name, answer, reason) => {
    const { transport, upstreams, log } = world([A]);
    transport.answer(at(A), answer);
    const result = await upstreams.findNarInfo(HASH, acceptAll);
    expect(result).toMatchObject({ kind: 'missing', refused: [expect.stringMatching(reason)] });
    expect(log.join('\n')).toContain('Narinfo is refused');
    await settle();
    expect(transport.to(at(A))[0]?.bodyDone).toBe(true);
  });

  test('when it is not accepted; another upstream may still be', async () => {
    const { transport, upstreams } = world([A, B]);
    transport.answer(at(A), NARINFO);
    transport.answer(at(B), NARINFO);
    const result = await upstreams.findNarInfo(HASH, ({ upstream }) =>
      Promise.resolve(
        upstream === A
          ? { accepted: false, reason: 'no trusted signature' }
          : { accepted: true, value: 'yes' },
      ),
    );
    expect(result).toEqual({ kind: 'found', upstream: B, value: 'yes' });
  });
});

test('An answer that is left out without a reason counts as "no", and nothing is said of it', async () => {
  const { transport, upstreams, log } = world([A]);
  transport.answer(at(A), NARINFO);
  const result = await upstreams.findNarInfo(HASH, () => Promise.resolve({ accepted: false, reason: null }));
  expect(result).toEqual({ kind: 'missing', refused: [] });
  expect(log.join('\n')).not.toContain('refused');
});

test('A Content-Encoding is undone', async () => {
  const { transport, upstreams } = world([A]);
  transport.answer(at(A), { body: gzipSync(narInfoText()), headers: { 'content-encoding': 'gzip' } });
  expect((await upstreams.findNarInfo(HASH, acceptAll)).kind).toBe('found');
});

test('A Content-Encoding that cannot be undone is a fault, and the body is left', async () => {
  const { transport, upstreams } = world([A]);
  transport.answer(at(A), { body: 'x', headers: { 'content-encoding': 'compress' } });
  expect(await upstreams.findNarInfo(HASH, acceptAll)).toMatchObject({
    kind: 'fault',
    fault: {
      reason: 'invalid-answer',
      message: `${A} answered with Content-Encoding "compress", which cannot be undone`,
    },
  });
  expect(transport.to(at(A))[0]?.bodyDone).toBe(true);
});

test('A nix-cache-info under a Content-Encoding that cannot be undone is left', async () => {
  const { transport, upstreams, metrics } = world([A]);
  transport.answer(`${A}/nix-cache-info`, { body: 'x', headers: { 'content-encoding': 'compress' } });
  await upstreams.findNarInfo(HASH, acceptAll);
  await settle();
  expect(transport.to(`${A}/nix-cache-info`).map(({ bodyDone }) => bodyDone)).toEqual([true]);
  expect(metrics.join()).toContain('"kind":"cache-info","outcome":"missing"');
});

test('An error of the acceptance itself ends the search with it', async () => {
  const { transport, upstreams } = world([A, B]);
  transport.answer(at(A), NARINFO);
  transport.answer(at(B), 'hang');
  const broken = new Error('index is broken');
  await expect(upstreams.findNarInfo(HASH, () => Promise.reject(broken))).rejects.toBe(broken);
  expect(transport.to(at(B))[0]?.aborted).toBe(true);
});

describe('Faults (law 5)', () => {
  test('one faulty upstream and the "no" of another are a fault, not missing', async () => {
    const { clock, transport, upstreams } = world([A, B]);
    transport.answer(at(A), refused());
    const result = upstreams.findNarInfo(HASH, acceptAll);
    await clock.advance(1000);
    expect(await result).toMatchObject({ kind: 'fault', fault: { reason: 'unreachable' } });
  });

  test('a faulty upstream does not spoil the success of another, whatever its priority', async () => {
    const { clock, transport, upstreams } = world([`${A}?priority=1`, `${B}?priority=2`]);
    transport.answer(at(A), { status: 500 });
    transport.answer(at(B), NARINFO);
    const result = upstreams.findNarInfo(HASH, acceptAll);
    await clock.advance(1000);
    expect(await result).toMatchObject({ kind: 'found', value: B });
  });

  test('what has not answered at the deadline timed out, and this is remembered of it', async () => {
    const { clock, transport, upstreams } = world([A, B]);
    transport.answer(at(A), 'hang');
    const result = upstreams.findNarInfo(HASH, acceptAll);
    await clock.advance(10_000);
    expect(await result).toMatchObject({ kind: 'fault', fault: { reason: 'timeout' } });
    expect(transport.to(at(A))[0]?.aborted).toBe(true);
    expect(upstreams.status()[0]?.lastFault).toContain('no answer within 10000 ms');
  });

  test.each([
    ['timeout', 'timeout'],
    ['connect', 'unreachable'],
    ['broken', 'unreachable'],
    ['protocol', 'invalid-answer'],
  ] as const)('a transport error of kind %s is a fault for the reason %s', async (kind, reason) => {
    const { clock, transport, upstreams } = world([A]);
    transport.answer(at(A), new TransportError(kind, 'so it is'));
    const result = upstreams.findNarInfo(HASH, acceptAll);
    await clock.advance(10_000);
    expect(await result).toMatchObject({
      kind: 'fault',
      fault: { reason, message: `${A} gave no answer: so it is` },
    });
  });
});
