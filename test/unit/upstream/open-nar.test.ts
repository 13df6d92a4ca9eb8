import { brotliCompressSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import type { ByteRange } from '../../../src/storage/blob-store.ts';
import { collect, streamOf } from '../../../src/stream/byte-stream.ts';
import { TransportError } from '../../../src/upstream/transport.ts';
import type { OpenedNar, OpenNarOptions } from '../../../src/upstream/upstreams.ts';
import { settle, world } from './fakes.ts';
import type { Answer, Script } from './fakes.ts';

const A = 'http://a.test';
const B = 'http://b.test';
const BODY = 'The bytes of a NAR';
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

async function read(opened: OpenedNar): Promise<string> {
  if (opened.kind !== 'found') throw new Error(`${opened.kind}, not found`);
  return new TextDecoder().decode(await collect(opened.body, 1000));
}

function open(script: Script, options: OpenNarOptions = {}, url = 'nar/x.nar'): Promise<OpenedNar> {
  const { transport, upstreams } = world([A]);
  transport.answer(`${A}/${url}`, script);
  return upstreams.openNar({ upstream: A, url }, options);
}

describe('A NAR', () => {
  test('comes with its size and etag', async () => {
    const opened = await open({ body: BODY, headers: { etag: '"1"' } });
    expect(opened).toMatchObject({ kind: 'found', upstream: A, size: BODY.length, range: null, etag: '"1"' });
    expect(await read(opened)).toBe(BODY);
  });

  test('without a Content-Length has no size', async () => {
    const opened = await open({ body: streamOf(bytes(BODY)) });
    expect(opened).toMatchObject({ kind: 'found', size: null, etag: null });
    expect(await read(opened)).toBe(BODY);
  });

  test.each([
    ['gzip', gzipSync(BODY)],
    ['x-gzip', gzipSync(BODY)],
    ['br', brotliCompressSync(BODY)],
    ['zstd', zstdCompressSync(BODY)],
  ])('under Content-Encoding %s comes without it, and its size is not known', async (coding, body) => {
    const opened = await open({ body, headers: { 'content-encoding': coding } });
    expect(opened).toMatchObject({ kind: 'found', size: null });
    expect(await read(opened)).toBe(BODY);
  });

  test('under a Content-Encoding that was cut throws', async () => {
    const opened = await open({
      body: gzipSync(BODY).subarray(0, -4),
      headers: { 'content-encoding': 'gzip' },
    });
    await expect(read(opened)).rejects.toThrow(/gzip/);
  });

  test('under a Content-Encoding, left before it was begun, frees its connection', async () => {
    const { transport, upstreams } = world([A]);
    transport.answer(`${A}/x`, { body: gzipSync(BODY), headers: { 'content-encoding': 'gzip' } });
    const opened = await upstreams.openNar({ upstream: A, url: 'x' });
    if (opened.kind === 'found') await opened.body[Symbol.asyncIterator]().return?.();
    expect(transport.seen[0]?.bodyDone).toBe(true);
  });

  test.each(['identity', ''])('under Content-Encoding "%s" has its size', async (coding) => {
    expect(await open({ body: BODY, headers: { 'content-encoding': coding } })).toMatchObject({
      size: BODY.length,
    });
  });

  test('under an unknown Content-Encoding is a fault, and its body is left', async () => {
    const { transport, upstreams } = world([A]);
    transport.answer(`${A}/x`, { body: BODY, headers: { 'content-encoding': 'gzip, br' } });
    expect(await upstreams.openNar({ upstream: A, url: 'x' })).toMatchObject({
      kind: 'fault',
      fault: { reason: 'invalid-answer' },
    });
    expect(transport.seen[0]?.bodyDone).toBe(true);
  });

  test.each([404, 410])('answered with %i is missing', async (status) => {
    expect(await open({ status })).toEqual({ kind: 'missing' });
  });

  test('of an upstream that is not configured any more is missing', async () => {
    const { upstreams, transport } = world([A]);
    expect(await upstreams.openNar({ upstream: B, url: 'nar/x.nar' })).toEqual({ kind: 'missing' });
    expect(transport.seen).toHaveLength(0);
  });

  test('is asked for again after a transport error', async () => {
    const { transport, upstreams, clock } = world([A]);
    transport.answer(`${A}/x`, new TransportError('connect', 'refused'), { body: BODY });
    const opened = upstreams.openNar({ upstream: A, url: 'x' });
    await clock.advance(100);
    expect(await read(await opened)).toBe(BODY);
  });

  test('by HEAD has a size and no body, and sends no Range', async () => {
    const { transport, upstreams } = world([A]);
    transport.answer(`${A}/x`, { headers: { 'content-length': '77' } });
    const opened = await upstreams.openNar(
      { upstream: A, url: 'x' },
      { method: 'HEAD', range: { start: 1 } },
    );
    expect(opened).toMatchObject({ kind: 'found', size: 77, range: null });
    expect(await read(opened)).toBe('');
    expect(transport.seen[0]?.request).toMatchObject({ method: 'HEAD' });
    expect(transport.seen[0]?.request.headers['range']).toBeUndefined();
  });
});

describe('The URL of a NAR', () => {
  test.each([
    ['http://a.test', 'nar/x.nar?hash=a%2Fb&c', 'http://a.test/nar/x.nar?hash=a%2Fb&c'],
    ['http://a.test/deep/er/', 'nar/a%20b%2Bc.nar', 'http://a.test/deep/er/nar/a%20b%2Bc.nar'],
    ['http://a.test/deep', '0a1b2c', 'http://a.test/deep/0a1b2c'],
    ['http://a.test', 'nar/snix-castore/abc?narsize=12', 'http://a.test/nar/snix-castore/abc?narsize=12'],
  ])('below %s, %s is asked for byte by byte', async (upstream, url, expected) => {
    const { transport, upstreams } = world([upstream]);
    transport.answer(expected, { body: BODY });
    expect((await upstreams.openNar({ upstream: upstream.replace(/\/$/, ''), url })).kind).toBe('found');
    expect(transport.seen.map((seen) => seen.url)).toEqual([expected]);
  });

  test.each(['../x', 'nar/../../x', '%2e%2e/x', 'x#y', '', 'nar\\..\\..\\x', 'a b'])(
    'that leads out of its upstream (%j) is a fault, and nothing is asked',
    async (url) => {
      const { transport, upstreams } = world(['http://a.test/deep']);
      const opened = await upstreams.openNar({ upstream: 'http://a.test/deep', url });
      expect(opened).toMatchObject({ kind: 'fault', fault: { reason: 'invalid-answer' } });
      expect(transport.seen).toHaveLength(0);
    },
  );

  test.each(['//evil.test/x', '/x', 'http://evil.test/x'])(
    'never leads to another host (%s)',
    async (url) => {
      const { transport, upstreams } = world([A]);
      await upstreams.openNar({ upstream: A, url });
      expect(transport.seen.every(({ request }) => request.url.host === 'a.test')).toBe(true);
    },
  );
});

describe('A range', () => {
  const part = (contentRange: string, body: Answer['body'] = BODY.slice(4, 9)): Answer => ({
    status: 206,
    headers: { 'content-range': contentRange },
    body,
  });

  test.each<[string, ByteRange, string, Answer, object]>([
    [
      'from to',
      { start: 4, end: 8 },
      'bytes=4-8',
      part('bytes 4-8/18'),
      { size: 18, range: { start: 4, end: 8 } },
    ],
    [
      'of unknown size',
      { start: 4, end: 8 },
      'bytes=4-8',
      part('bytes 4-8/*'),
      { size: null, range: { start: 4, end: 8 } },
    ],
    [
      'to the end',
      { start: 13 },
      'bytes=13-',
      part('bytes 13-17/18'),
      { size: 18, range: { start: 13, end: 17 } },
    ],
    [
      'past the end',
      { start: 13, end: 99 },
      'bytes=13-99',
      part('bytes 13-17/18'),
      { range: { start: 13, end: 17 } },
    ],
    [
      'of the last bytes',
      { suffix: 5 },
      'bytes=-5',
      part('bytes 13-17/18'),
      { range: { start: 13, end: 17 } },
    ],
    [
      'without a length',
      { start: 4, end: 8 },
      'bytes=4-8',
      part('bytes 4-8/18', streamOf(bytes('ytes '))),
      { range: { start: 4, end: 8 } },
    ],
  ])('%s is given', async (_name, range, header, answer, expected) => {
    const { transport, upstreams } = world([A]);
    transport.answer(`${A}/x`, answer);
    const opened = await upstreams.openNar({ upstream: A, url: 'x' }, { range });
    expect(transport.seen[0]?.request.headers['range']).toBe(header);
    expect(opened).toMatchObject({ kind: 'found', ...expected });
    expect(await read(opened)).toHaveLength(5);
  });

  test('that is ignored gives the whole, and says so', async () => {
    const opened = await open({ body: BODY }, { range: { start: 4 } });
    expect(opened).toMatchObject({ kind: 'found', range: null, size: BODY.length });
    expect(await read(opened)).toBe(BODY);
  });

  test.each<[string, ByteRange, Answer]>([
    ['other bytes', { start: 4, end: 8 }, part('bytes 5-9/18')],
    ['fewer bytes', { start: 4, end: 9 }, part('bytes 4-8/18')],
    ['more bytes', { start: 4, end: 7 }, part('bytes 4-8/18')],
    ['other bytes of an unknown size', { start: 5, end: 9 }, part('bytes 4-8/*')],
    ['more bytes of an unknown size', { suffix: 4 }, part('bytes 4-8/*')],
    ['a range that is upside down', { start: 4 }, part('bytes 4-2/*', '')],
    ['no Content-Range', { start: 4, end: 8 }, { status: 206, body: 'ytes ' }],
    ['a Content-Range that is nonsense', { start: 4, end: 8 }, part('bytes 4-8')],
    ['another Content-Length', { start: 4, end: 8 }, part('bytes 4-8/18', 'ytes')],
    [
      'a Content-Encoding',
      { start: 4, end: 8 },
      { ...part('bytes 4-8/18'), headers: { 'content-range': 'bytes 4-8/18', 'content-encoding': 'gzip' } },
    ],
  ])('answered with %s is a fault', async (_name, range, answer) => {
    expect(await open(answer, { range })).toMatchObject({
      kind: 'fault',
      fault: { reason: 'invalid-answer' },
    });
  });

  test.each([206, 416])('that nobody asked for (%i) is a fault', async (status) => {
    expect(await open({ status, headers: { 'content-range': 'bytes 0-4/5' } })).toMatchObject({
      kind: 'fault',
    });
  });

  test.each(['ytes', 'ytes of'])(
    'whose body without a length is not as long as it says (%j) throws',
    async (text) => {
      const opened = await open(part('bytes 4-8/18', streamOf(bytes(text))), { range: { start: 4, end: 8 } });
      await expect(read(opened)).rejects.toBeInstanceOf(TransportError);
    },
  );

  test.each([
    ['bytes */18', 18],
    ['bytes */*', null],
  ])('beyond the end is unsatisfiable (%s)', async (contentRange, size) => {
    const answer = { status: 416, headers: { 'content-range': contentRange } };
    expect(await open(answer, { range: { start: 99 } })).toEqual({ kind: 'unsatisfiable', size });
  });
});

describe('Finding a NAR', () => {
  test('asks the best upstream first, and nobody else if it has it', async () => {
    const { transport, upstreams, clock } = world([`${B}?priority=2`, `${A}?priority=1`]);
    transport.answer(`${A}/nar/x?y=1`, { body: BODY });
    const opened = await upstreams.findNar('nar/x?y=1');
    expect(opened).toMatchObject({ kind: 'found', upstream: A });
    expect(await read(opened)).toBe(BODY);
    expect(transport.seen).toHaveLength(1);
    expect(clock.waiting).toBe(0);
  });

  test('asks the next one at once where the best one says no', async () => {
    const { transport, upstreams } = world([`${A}?priority=1`, `${B}?priority=2`]);
    transport.answer(`${B}/x`, { body: BODY });
    expect(await upstreams.findNar('x')).toMatchObject({ kind: 'found', upstream: B });
  });

  test('asks the next one after the hedge where the best one is slow; the body of the winner can be read', async () => {
    const { transport, upstreams, clock } = world([`${A}?priority=1`, `${B}?priority=2`]);
    transport.answer(`${A}/x`, 'hang');
    transport.answer(`${B}/x`, { body: BODY });
    const found = upstreams.findNar('x');
    await clock.advance(149);
    expect(transport.to(`${B}/x`)).toHaveLength(0);
    await clock.advance(1);
    const opened = await found;
    expect(opened).toMatchObject({ kind: 'found', upstream: B });
    expect(transport.to(`${A}/x`)[0]?.aborted).toBe(true);
    expect(transport.to(`${B}/x`)[0]?.aborted).toBe(false);
    expect(await read(opened)).toBe(BODY);
  });

  test('leaves a body that comes too late', async () => {
    const { transport, upstreams, clock } = world([`${A}?priority=1`, `${B}?priority=2`]);
    const [a, b] = [Promise.withResolvers<Answer>(), Promise.withResolvers<Answer>()];
    transport.answer(`${A}/x`, a.promise);
    transport.answer(`${B}/x`, b.promise);
    const found = upstreams.findNar('x');
    await clock.advance(150);
    a.resolve({ body: BODY });
    b.resolve({ body: BODY });
    expect(await found).toMatchObject({ kind: 'found' });
    await settle();
    const left = transport.seen.filter(({ bodyDone, aborted }) => bodyDone || aborted);
    expect(left).toHaveLength(1);
  });

  test('is missing where all say no, a fault where one fails, and found in spite of a fault', async () => {
    const { transport, upstreams, clock } = world([`${A}?priority=1`, `${B}?priority=2`]);
    expect(await upstreams.findNar('x')).toEqual({ kind: 'missing' });
    transport.answer(`${A}/x`, { status: 500 });
    const fault = upstreams.findNar('x');
    await clock.advance(1000);
    expect(await fault).toMatchObject({ kind: 'fault', fault: { reason: 'status' } });
    transport.answer(`${B}/x`, { body: BODY });
    const found = upstreams.findNar('x');
    await clock.advance(1000);
    expect(await found).toMatchObject({ kind: 'found', upstream: B });
  });

  test('under a path that leads elsewhere is missing, and nothing is asked', async () => {
    const { transport, upstreams } = world(['http://a.test/deep']);
    expect(await upstreams.findNar('../x')).toEqual({ kind: 'missing' });
    expect(transport.seen).toHaveLength(0);
  });

  test('can be aborted, before the headers and within the body', async () => {
    const { transport, upstreams } = world([A]);
    transport.answer(`${A}/x`, 'hang');
    const first = new AbortController();
    const found = upstreams.findNar('x', { signal: first.signal });
    await settle();
    first.abort(new Error('client left'));
    await expect(found).rejects.toThrow('client left');

    transport.answer(`${A}/x`, { body: BODY });
    const second = new AbortController();
    const opened = await upstreams.findNar('x', { signal: second.signal });
    expect(opened.kind).toBe('found');
    second.abort(new Error('client left'));
    expect(transport.seen.at(-1)?.aborted).toBe(true);
  });
});
