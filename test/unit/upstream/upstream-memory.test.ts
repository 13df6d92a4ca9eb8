import { describe, expect, test } from 'vitest';
import { createUpstreamMemory } from '../../../src/upstream/upstream-memory.ts';
import { acceptAll, HASH, narInfoText, settle, world } from './fakes.ts';
import type { World } from './fakes.ts';

const A = 'http://a.test';
const B = 'http://b.test';
const NARINFO = { body: narInfoText() };

/** Two clients of the same upstreams, as two requests of one process have them. */
function twoWorlds(urls: readonly string[]): { first: World; second: World; background: Promise<unknown>[] } {
  const memory = createUpstreamMemory({}, () => 0.5);
  const background: Promise<unknown>[] = [];
  const options = { memory, background: (work: Promise<unknown>) => background.push(work) };
  return { first: world(urls, options), second: world(urls, options), background };
}

async function failThrice({ upstreams, clock, transport }: World): Promise<void> {
  transport.answer(`${A}/${HASH}.narinfo`, { status: 500 });
  for (let i = 0; i < 3; i += 1) {
    const found = upstreams.findNarInfo(HASH, acceptAll);
    await clock.advance(1000);
    await found;
  }
}

describe('What clients of one process share', () => {
  test('is which upstream is left alone', async () => {
    const { first, second } = twoWorlds([A]);
    await failThrice(first);
    expect(second.upstreams.status()).toMatchObject([{ circuit: 'open' }]);
    const found = second.upstreams.findNarInfo(HASH, acceptAll);
    await second.clock.advance(1000);
    expect(await found).toMatchObject({ kind: 'fault', fault: { reason: 'circuit-open' } });
    expect(second.transport.seen).toHaveLength(0);
  });

  test('is what they say of themselves, asked for once', async () => {
    const { first, second, background } = twoWorlds([A, B]);
    first.transport.answer(`${A}/nix-cache-info`, { body: 'StoreDir: /nix/store\nPriority: 50\n' });
    first.transport.answer(`${B}/nix-cache-info`, { body: 'StoreDir: /nix/store\nPriority: 10\n' });
    first.transport.answer(`${A}/${HASH}.narinfo`, NARINFO);
    await first.upstreams.findNarInfo(HASH, acceptAll);
    // The runtime is told of what no answer waits for.
    expect(background).toHaveLength(2);
    await Promise.all(background);
    second.transport.answer(`${A}/${HASH}.narinfo`, NARINFO);
    second.transport.answer(`${B}/${HASH}.narinfo`, NARINFO);
    expect(await second.upstreams.findNarInfo(HASH, acceptAll)).toMatchObject({ value: B });
    expect(second.transport.to(`${A}/nix-cache-info`)).toHaveLength(0);
  });
});

describe('A probe whose request was ended from outside', () => {
  test('is sent again by a later one', async () => {
    const { first, second } = twoWorlds([A]);
    await failThrice(first);
    await first.clock.advance(10_000);
    first.transport.answer(`${A}/nix-cache-info`, 'hang');
    void first.upstreams.findNarInfo(HASH, acceptAll);
    await settle();
    expect(second.upstreams.status()).toMatchObject([{ circuit: 'half-open' }]);

    second.transport.answer(`${A}/nix-cache-info`, { body: 'StoreDir: /nix/store\n' });
    second.transport.answer(`${A}/${HASH}.narinfo`, NARINFO);
    await second.clock.advance(15_000);
    expect(await second.upstreams.findNarInfo(HASH, acceptAll)).toMatchObject({ kind: 'fault' });
    await second.clock.advance(30_000);
    expect(await second.upstreams.findNarInfo(HASH, acceptAll)).toMatchObject({ kind: 'found' });
  });
});
