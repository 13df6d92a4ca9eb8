import { describe, expect, test } from 'vitest';
import { HASH, acceptAll, narInfoText, settle, world } from './fakes.ts';
import type { Answer } from './fakes.ts';

const A = 'http://a.test';
const B = 'http://b.test';
const at = (upstream: string): string => `${upstream}/${HASH}.narinfo`;
const NARINFO: Answer = { body: narInfoText() };

describe('The race', () => {
  test('asks all at once, and the better one wins although it is a little slower', async () => {
    const { clock, transport, upstreams } = world([`${A}?priority=10`, `${B}?priority=20`]);
    const late = Promise.withResolvers<Answer>();
    transport.answer(at(A), late.promise);
    transport.answer(at(B), NARINFO);
    const found = upstreams.findNarInfo(HASH, acceptAll);
    await clock.advance(149);
    expect(transport.seen).toHaveLength(2);
    late.resolve(NARINFO);
    expect(await found).toMatchObject({ value: A });
  });

  test('gives the worse one the win after the hedge, and cancels the better one', async () => {
    const { clock, transport, upstreams } = world([`${A}?priority=10`, `${B}?priority=20`]);
    transport.answer(at(A), 'hang');
    transport.answer(at(B), NARINFO);
    const found = upstreams.findNarInfo(HASH, acceptAll);
    await clock.advance(149);
    expect(transport.to(at(A))[0]?.aborted).toBe(false);
    await clock.advance(1);
    expect(await found).toMatchObject({ value: B });
    expect(transport.to(at(A))[0]?.aborted).toBe(true);
    expect(clock.waiting).toBe(0);
    expect(upstreams.status()[0]).toMatchObject({ circuit: 'closed', lastFault: null });
  });

  test('does not wait for better ones that said no, nor for worse ones', async () => {
    const { transport, upstreams } = world([
      `${A}?priority=10`,
      `${B}?priority=20`,
      'http://c.test?priority=30',
    ]);
    transport.answer(at(B), NARINFO);
    transport.answer(at('http://c.test'), 'hang');
    expect(await upstreams.findNarInfo(HASH, acceptAll)).toMatchObject({ value: B });
    expect(transport.to(at('http://c.test'))[0]?.aborted).toBe(true);
  });

  test('stops waiting for one that lost three hedges, asks it nevertheless, and tries again later', async () => {
    const { clock, transport, upstreams } = world([`${A}?priority=10`, `${B}?priority=20`]);
    transport.answer(at(A), 'hang');
    transport.answer(at(B), NARINFO);
    for (let i = 0; i < 3; i += 1) {
      const found = upstreams.findNarInfo(HASH, acceptAll);
      await clock.advance(150);
      expect(await found).toMatchObject({ value: B });
    }
    expect(await upstreams.findNarInfo(HASH, acceptAll)).toMatchObject({ value: B });
    expect(transport.to(at(A))).toHaveLength(4);
    await clock.advance(10_000);
    transport.answer(at(A), NARINFO);
    expect(await upstreams.findNarInfo(HASH, acceptAll)).toMatchObject({ value: A });
  });

  test('takes the order from the own nix-cache-info of each, once that was read in the background', async () => {
    const { clock, transport, upstreams } = world([A, B]);
    transport.answer(`${A}/nix-cache-info`, { body: 'StoreDir: /nix/store\nPriority: 41\n' });
    transport.answer(`${B}/nix-cache-info`, { body: 'StoreDir: /nix/store\nPriority: 30\n' });
    transport.answer(at(A), NARINFO);
    transport.answer(at(B), NARINFO);
    expect(upstreams.status().map(({ priority }) => priority)).toEqual([null, null]);
    expect(await upstreams.findNarInfo(HASH, acceptAll)).toMatchObject({ value: A });
    await settle();
    expect(upstreams.status().map(({ priority }) => priority)).toEqual([41, 30]);
    expect(await upstreams.findNarInfo(HASH, acceptAll)).toMatchObject({ value: B });
    expect(transport.to(`${A}/nix-cache-info`)).toHaveLength(1);
    expect(clock.waiting).toBe(0);
  });

  test('that is aborted rejects with the reason and cancels everybody', async () => {
    const { clock, transport, upstreams } = world([A, B]);
    transport.answer(at(A), 'hang');
    transport.answer(at(B), 'hang');
    const controller = new AbortController();
    const reason = new Error('client left');
    const found = upstreams.findNarInfo(HASH, acceptAll, { signal: controller.signal });
    await settle();
    controller.abort(reason);
    await expect(found).rejects.toBe(reason);
    expect([...transport.to(at(A)), ...transport.to(at(B))].every(({ aborted }) => aborted)).toBe(true);
    expect(clock.waiting).toBe(0);
    expect(upstreams.status().every(({ lastFault }) => lastFault === null)).toBe(true);
  });
});
