import { describe, expect, test } from 'vitest';
import { TransportError } from '../../../src/upstream/transport.ts';
import type { FindResult } from '../../../src/upstream/upstreams.ts';
import { HASH, acceptAll, narInfoText, settle, world } from './fakes.ts';
import type { Answer, Script, World } from './fakes.ts';

const A = 'http://a.test';
const B = 'http://b.test';
const at = (upstream: string): string => `${upstream}/${HASH}.narinfo`;
const NARINFO: Answer = { body: narInfoText() };
const refused = (): TransportError => new TransportError('connect', 'refused');

async function find({ upstreams, clock }: World, ms = 10_000): Promise<FindResult<string>> {
  const result = upstreams.findNarInfo(HASH, acceptAll);
  await clock.advance(ms);
  return result;
}

describe('A retry', () => {
  test.each<[string, Script]>([
    ['500', { status: 500 }],
    ['502', { status: 502 }],
    ['408', { status: 408 }],
    ['429', { status: 429 }],
    ['a transport error', refused()],
    [
      'a body that broke',
      {
        // eslint-disable-next-line require-yield
        body: (async function* () {
          throw new TransportError('broken', 'cut');
        })(),
      },
    ],
  ])('follows %s, and its success counts', async (_name, script) => {
    const the = world([A]);
    the.transport.answer(at(A), script, NARINFO);
    expect(await find(the)).toMatchObject({ kind: 'found' });
    expect(the.transport.to(at(A))).toHaveLength(2);
    expect(the.upstreams.status()[0]?.lastFault).toBeNull();
  });

  test('comes after a random time that doubles, and there are two of them', async () => {
    const the = world([A]);
    the.transport.answer(at(A), { status: 500 });
    const result = the.upstreams.findNarInfo(HASH, acceptAll);
    const sent = (): number => the.transport.to(at(A)).length;
    await the.clock.advance(49);
    expect(sent()).toBe(1);
    await the.clock.advance(1);
    expect(sent()).toBe(2);
    await the.clock.advance(99);
    expect(sent()).toBe(2);
    await the.clock.advance(1);
    expect(sent()).toBe(3);
    expect(await result).toMatchObject({ kind: 'fault', fault: { message: `${A} answered 500` } });
    expect(the.clock.waiting).toBe(0);
  });

  test.each([
    ['2', 2000],
    ['Thu, 01 Jan 2026 00:00:02 GMT', 2000],
    ['Thu, 01 Jan 1970 00:00:00 GMT', 0],
    ['soon', 50],
    ['2026', null],
  ])('waits as long as Retry-After: %s says', async (header, wait) => {
    const the = world([A]);
    the.transport.answer(at(A), { status: 429, headers: { 'retry-after': header } }, NARINFO);
    const result = the.upstreams.findNarInfo(HASH, acceptAll);
    if (wait === null) {
      expect(await result).toMatchObject({ kind: 'fault', fault: { message: `${A} answered 429` } });
      expect(the.transport.to(at(A))).toHaveLength(1);
      return;
    }
    if (wait > 0) {
      await the.clock.advance(wait - 1);
      expect(the.transport.to(at(A))).toHaveLength(1);
    }
    await the.clock.advance(1);
    expect(await result).toMatchObject({ kind: 'found' });
  });
});

describe('A circuit', () => {
  test('opens after three requests in a row that failed, and nothing is sent then', async () => {
    const the = world([A]);
    the.transport.answer(at(A), refused());
    for (let i = 0; i < 3; i += 1) {
      expect(the.upstreams.status()[0]?.circuit).toBe('closed');
      expect(await find(the, 1000)).toMatchObject({ kind: 'fault', fault: { reason: 'unreachable' } });
    }
    expect(the.upstreams.status()[0]?.circuit).toBe('open');
    const sent = the.transport.seen.length;
    expect(await find(the, 0)).toMatchObject({ kind: 'fault', fault: { reason: 'circuit-open' } });
    expect(the.transport.seen).toHaveLength(sent);
    expect(the.metrics).toContain(`snowcap_upstream_circuit_open 1 ${JSON.stringify({ upstream: A })}`);
  });

  test('that is open does not count while another upstream answers', async () => {
    const the = world([A, B]);
    the.transport.answer(at(A), refused());
    for (let i = 0; i < 3; i += 1) expect((await find(the, 1000)).kind).toBe('fault');
    expect(await find(the, 0)).toEqual({ kind: 'missing', refused: [] });
    the.transport.answer(at(B), { status: 500 });
    expect((await find(the, 1000)).kind).toBe('fault');
  });

  test('opens within the five attempts of one client', async () => {
    const the = world([A, B]);
    the.transport.answer(at(A), { status: 503 });
    const kinds: string[] = [];
    for (let i = 0; i < 5; i += 1) kinds.push((await find(the, 1000)).kind);
    expect(kinds).toEqual(['fault', 'fault', 'fault', 'missing', 'missing']);
  });

  test('is not opened by "no", and a success between faults closes the count', async () => {
    const the = world([A]);
    the.transport.answer(at(A), { status: 404 });
    for (let i = 0; i < 10; i += 1) await find(the, 0);
    for (let i = 0; i < 3; i += 1) {
      the.transport.answer(at(A), { status: 500 });
      await find(the, 1000);
      await find(the, 1000);
      the.transport.answer(at(A), { status: 404 });
      await find(the, 0);
    }
    expect(the.upstreams.status()[0]?.circuit).toBe('closed');
  });

  test.each([400, 405, 406, 414, 422, 431])(
    'is not opened by the NARs that strangers ask for and the upstream refuses with %i',
    async (status) => {
      const the = world([A]);
      const path = `nar/${'a'.repeat(9000)}`;
      the.transport.answer(`${A}/${path}`, { status });
      for (let i = 0; i < 6; i += 1) {
        expect(await the.upstreams.findNar(path)).toMatchObject({ kind: 'fault' });
      }
      expect(the.transport.to(`${A}/${path}`)).toHaveLength(6);
      expect(the.upstreams.status()[0]).toMatchObject({ circuit: 'closed', lastFault: null });
      the.transport.answer(at(A), NARINFO);
      expect(await find(the, 0)).toMatchObject({ kind: 'found' });
    },
  );

  test.each([401, 402, 407, 501])('is opened by NARs that the upstream answers with %i', async (status) => {
    const the = world([A]);
    the.transport.answer(`${A}/nar/x`, { status });
    for (let i = 0; i < 3; i += 1) await the.upstreams.findNar('nar/x');
    expect(the.upstreams.status()[0]?.circuit).toBe('open');
  });

  test('is opened by narinfos that are answered with 400: nobody else shapes that request', async () => {
    const the = world([A]);
    the.transport.answer(at(A), { status: 400 });
    for (let i = 0; i < 3; i += 1) await find(the, 0);
    expect(the.upstreams.status()[0]?.circuit).toBe('open');
  });

  test('is probed by the first demand after its time, and closes when it answers', async () => {
    const the = world([`${A}?priority=1`, `${B}?priority=2`]);
    the.transport.answer(at(A), refused());
    for (let i = 0; i < 3; i += 1) await find(the, 1000);
    the.transport.answer(at(A), NARINFO);
    // Ten seconds less half of a fifth, by the jitter of 1/2.
    await the.clock.advance(7900);
    await find(the, 0);
    expect(the.transport.to(`${A}/nix-cache-info`)).toHaveLength(0);
    await the.clock.advance(1100);
    // B answers meanwhile, so nobody waits for the probe.
    expect((await find(the, 0)).kind).toBe('missing');
    expect(the.transport.to(`${A}/nix-cache-info`)).toHaveLength(1);
    await settle();
    expect(the.upstreams.status()[0]?.circuit).toBe('closed');
    expect(await find(the, 0)).toMatchObject({ kind: 'found', value: A });
    expect(the.metrics).toContain(`snowcap_upstream_circuit_open 0 ${JSON.stringify({ upstream: A })}`);
  });

  test('is half-open while its probe is on its way, and only one is sent', async () => {
    const the = world([`${A}?priority=1`, `${B}?priority=2`]);
    the.transport.answer(at(A), refused());
    the.transport.answer(`${A}/nix-cache-info`, 'hang');
    for (let i = 0; i < 3; i += 1) await find(the, 1000);
    await the.clock.advance(10_000);
    for (let i = 0; i < 3; i += 1) expect((await find(the, 0)).kind).toBe('missing');
    expect(the.upstreams.status()[0]?.circuit).toBe('half-open');
    expect(the.transport.to(`${A}/nix-cache-info`)).toHaveLength(1);
  });

  test('stays open longer with each failed probe', async () => {
    const the = world([`${A}?priority=1`, `${B}?priority=2`]);
    the.transport.answer(at(A), refused());
    the.transport.answer(`${A}/nix-cache-info`, { status: 500 });
    for (let i = 0; i < 3; i += 1) await find(the, 1000);
    const probes = (): number => the.transport.to(`${A}/nix-cache-info`).length;
    for (const [index, open] of [9000, 18_000, 36_000, 54_000, 54_000].entries()) {
      await the.clock.advance(open - 1002);
      await find(the, 0);
      expect(probes()).toBe(index);
      await the.clock.advance(1002);
      await find(the, 0);
      await settle();
      expect(probes()).toBe(index + 1);
    }
    expect(the.upstreams.status()[0]?.lastFault).toBe(`${A} answered 500`);
  });

  test('of the only upstream is closed by a probe that the request waits for', async () => {
    const the = world([A]);
    the.transport.answer(at(A), refused());
    for (let i = 0; i < 3; i += 1) await find(the, 1000);
    the.transport.answer(at(A), NARINFO);
    await the.clock.advance(10_000);
    expect(await find(the, 0)).toMatchObject({ kind: 'found' });
  });

  test('has no timer of its own: nothing waits while nobody asks', async () => {
    const the = world([A]);
    the.transport.answer(at(A), refused());
    for (let i = 0; i < 3; i += 1) await find(the, 1000);
    expect(the.clock.waiting).toBe(0);
  });

  test('counts the NARs that cannot be opened too', async () => {
    const the = world([A]);
    the.transport.answer(`${A}/nar/x.nar`, { status: 500 });
    for (let i = 0; i < 3; i += 1) {
      const opened = the.upstreams.openNar({ upstream: A, url: 'nar/x.nar' });
      await the.clock.advance(1000);
      expect((await opened).kind).toBe('fault');
    }
    expect(await the.upstreams.openNar({ upstream: A, url: 'nar/x.nar' })).toMatchObject({
      kind: 'fault',
      fault: { reason: 'circuit-open' },
    });
  });
});

describe('Credentials', () => {
  const SECRET = 'hunter2';

  test('of the URL are sent as Basic, unescaped, and are in no URL, log line, status or fault', async () => {
    const the = world([`http://me%40home:${SECRET}%25@a.test`]);
    the.transport.answer(at(A), { status: 401 });
    const fault = await find(the);
    the.transport.answer(at(A), new TransportError('broken', 'cut'));
    const other = await find(the);
    const { request } = the.transport.to(at(A))[0] ?? {};
    expect(request?.headers['authorization']).toBe(`Basic ${btoa(`me@home:${SECRET}%`)}`);
    const shown = JSON.stringify([
      fault,
      other,
      the.upstreams.status(),
      the.log,
      the.metrics,
      request?.url.href,
    ]);
    expect(shown).not.toContain(SECRET);
    expect(shown).not.toContain('me%40home');
    expect(shown).not.toContain(btoa(`me@home:${SECRET}%`));
    expect(the.log.length).toBeGreaterThan(0);
  });

  test('are asked for where the URL has none, and those of the URL come first', async () => {
    const the = world([A, 'http://own:pw@b.test'], {
      credentials: (url) => ({ user: 'netrc', password: url.hostname }),
    });
    await find(the);
    expect(the.transport.to(at(A))[0]?.request.headers['authorization']).toBe(
      `Basic ${btoa('netrc:a.test')}`,
    );
    expect(the.transport.to(at(B))[0]?.request.headers['authorization']).toBe(`Basic ${btoa('own:pw')}`);
  });

  test('are not sent where there are none', async () => {
    const the = world([A], { credentials: () => null });
    await find(the);
    expect(the.transport.to(at(A))[0]?.request.headers['authorization']).toBeUndefined();
  });
});

test('The same upstream twice is refused at once', () => {
  expect(() => world([A, `${A}/?priority=3`])).toThrow('Cannot use the same upstream URL twice');
});
