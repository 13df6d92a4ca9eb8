import { describe, expect, it } from 'vitest';
import { createKeysInUse } from '../../../src/cache/evict/in-use.ts';

describe('keys in use', () => {
  it('are held until the last holder lets go, each once', () => {
    const inUse = createKeysInUse();
    const [first, second] = [inUse.hold('nar/a'), inUse.hold('nar/a')];
    first();
    first();
    expect(inUse.has('nar/a')).toBe(true);
    second();
    expect([inUse.has('nar/a'), inUse.size]).toEqual([false, 0]);
  });

  it('that nobody lets go of are forgotten, where requests may end without a word', () => {
    let now = 0;
    const inUse = createKeysInUse({ now: () => now, afterMs: 1000 });
    const lost = inUse.hold('nar/lost');
    inUse.hold('nar/held');
    now = 900;
    const held = inUse.hold('nar/held');
    now = 1100;
    expect([inUse.has('nar/lost'), inUse.has('nar/held')]).toEqual([false, true]);
    inUse.hold('nar/lost');
    // Whoever comes back late lets go of nothing that others hold.
    lost();
    expect(inUse.has('nar/lost')).toBe(true);
    held();
    now = 3000;
    inUse.hold('nar/other');
    expect(inUse.size).toBe(1);
  });
});
