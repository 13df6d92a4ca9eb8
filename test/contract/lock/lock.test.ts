import { describe, expect, it } from 'vitest';
import { createLocalLocks } from '../../../src/lock/local.ts';
import { createFakeClock } from './fake-clock.ts';
import { testLockManager } from './lock-manager.contract.ts';

testLockManager({ name: 'local', create: (clock) => createLocalLocks({ clock }) });

describe('local locks', () => {
  it('leave no timer behind once every lock was released', async () => {
    const clock = createFakeClock();
    const locks = createLocalLocks({ clock });
    const leases = await Promise.all(
      Array.from({ length: 20 }, (_, index) => locks.acquire(`lock ${index}`, { leaseMs: 1000, waitMs: 0 })),
    );
    const waiting = locks.acquire('lock 0', { leaseMs: 1000, waitMs: 500 });
    await clock.advance(10);
    expect(clock.sleeping).toBe(21);
    for (const lease of leases) await lease?.release();
    await (await waiting)?.release();
    expect(clock.sleeping).toBe(0);
  });

  it('see a lease as over when its time has passed, although its timer had no turn yet', async () => {
    let now = 0;
    const clock = { now: () => now, sleep: () => new Promise<void>(() => undefined) };
    const locks = createLocalLocks({ clock });
    const first = await locks.acquire('a', { leaseMs: 1000, waitMs: 0 });
    now = 1000;
    expect(await first?.extend(1000)).toBe(false);
    expect(first?.lost.aborted).toBe(true);
    const second = await locks.acquire('a', { leaseMs: 1000, waitMs: 0 });
    now = 2000;
    const third = await locks.acquire('a', { leaseMs: 1000, waitMs: 0 });
    expect(second?.lost.aborted).toBe(true);
    expect(third).not.toBeNull();
  });

  it('take the token of a lease from the source given', async () => {
    const locks = createLocalLocks({ clock: createFakeClock(), token: () => 'token-1' });
    expect((await locks.acquire('a', { leaseMs: 1000, waitMs: 0 }))?.token).toBe('token-1');
  });
});
