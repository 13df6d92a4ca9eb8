import { afterEach, describe, expect, it } from 'vitest';
import type { Lease, LockManager } from '../../../src/lock/lock-manager.ts';
import { createFakeClock } from './fake-clock.ts';
import type { FakeClock } from './fake-clock.ts';

/** How the suite gets at a driver. */
export interface LockManagerUnderTest {
  readonly name: string;
  /** A fresh manager with no lock held; leases and waits run by the clock given. */
  create(clock: FakeClock): Promise<LockManager> | LockManager;
  /**
   * Parts of the contract that the driver declares that it does not keep, each with the reason. `order`:
   * waiters are not served in the order in which they came (law 4 does not need it).
   */
  readonly unsupported?: { readonly order?: string };
}

/** The contract of `LockManager`, run over every driver. */
export function testLockManager(driver: LockManagerUnderTest): void {
  describe(`${driver.name} keeps the contract of LockManager`, () => {
    const managers: LockManager[] = [];

    async function start(): Promise<{ clock: FakeClock; locks: LockManager }> {
      const clock = createFakeClock();
      const locks = await driver.create(clock);
      managers.push(locks);
      return { clock, locks };
    }

    afterEach(async () => {
      await Promise.all(managers.splice(0).map((locks) => locks.close()));
    });

    describe('taking a lock', () => {
      it('gives a free lock at once, with its name and a token', async () => {
        const { locks } = await start();
        const lease = held(await locks.acquire('fill nar/a', { leaseMs: 1000, waitMs: 0 }));
        expect(lease.name).toBe('fill nar/a');
        expect(lease.token).not.toBe('');
        expect(lease.lost.aborted).toBe(false);
      });

      it('gives null at once when another holds it and waitMs is 0', async () => {
        const { locks } = await start();
        held(await locks.acquire('a', { leaseMs: 1000, waitMs: 0 }));
        expect(await locks.acquire('a', { leaseMs: 1000, waitMs: 0 })).toBeNull();
      });

      it('keeps locks of different names apart', async () => {
        const { locks } = await start();
        const leases = await Promise.all(
          ['a', 'b', '', 'a ', '__proto__'].map((name) => locks.acquire(name, { leaseMs: 1000, waitMs: 0 })),
        );
        expect(leases.every((lease) => lease !== null)).toBe(true);
      });

      it('gives exactly one of many that ask at the same time the lock', async () => {
        const { locks } = await start();
        const answers = await Promise.all(
          Array.from({ length: 50 }, () => locks.acquire('a', { leaseMs: 1000, waitMs: 0 })),
        );
        expect(answers.filter((lease) => lease !== null)).toHaveLength(1);
      });

      it('never gives the same token twice', async () => {
        const { locks } = await start();
        const tokens = new Set<string>();
        for (let round = 0; round < 50; round += 1) {
          const lease = held(await locks.acquire('a', { leaseMs: 1000, waitMs: 0 }));
          tokens.add(lease.token);
          await lease.release();
        }
        expect(tokens.size).toBe(50);
      });

      it.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY])('refuses a lease of %d ms', async (leaseMs) => {
        const { locks } = await start();
        await expect(locks.acquire('a', { leaseMs, waitMs: 0 })).rejects.toThrow(RangeError);
      });
    });

    describe('waiting', () => {
      it('gives the lock to a waiter when its holder releases it', async () => {
        const { clock, locks } = await start();
        const first = held(await locks.acquire('a', { leaseMs: 60_000, waitMs: 0 }));
        const second = watch(locks.acquire('a', { leaseMs: 60_000, waitMs: 30_000 }));
        await clock.advance(1000);
        expect(second.settled()).toBe(false);
        await first.release();
        await clock.advance(1000);
        expect(held(await second.result).token).not.toBe(first.token);
        expect(first.lost.aborted).toBe(false);
      });

      it('gives null once waitMs have passed, and not before', async () => {
        const { clock, locks } = await start();
        held(await locks.acquire('a', { leaseMs: 60_000, waitMs: 0 }));
        const second = watch(locks.acquire('a', { leaseMs: 60_000, waitMs: 5000 }));
        await clock.advance(4000);
        expect(second.settled()).toBe(false);
        await clock.advance(2000);
        expect(second.settled()).toBe(true);
        expect(await second.result).toBeNull();
      });

      it('never gives the lock to a waiter that gave up in the turn of the release', async () => {
        const { clock, locks } = await start();
        const first = held(await locks.acquire('a', { leaseMs: 60_000, waitMs: 0 }));
        const cancel = new AbortController();
        const gaveUp = watch(locks.acquire('a', { leaseMs: 60_000, waitMs: 9000, signal: cancel.signal }));
        await clock.advance(1000);
        cancel.abort(new Error('client left'));
        await first.release();
        await expect(gaveUp.result).rejects.toThrow('client left');
        const next = watch(locks.acquire('a', { leaseMs: 1000, waitMs: 500 }));
        await clock.advance(1000);
        held(await next.result);
      });

      it('throws the reason of the signal when the wait is aborted, and the lock is not affected', async () => {
        const { clock, locks } = await start();
        const first = held(await locks.acquire('a', { leaseMs: 60_000, waitMs: 0 }));
        const cancel = new AbortController();
        const second = watch(locks.acquire('a', { leaseMs: 1000, waitMs: 9000, signal: cancel.signal }));
        await clock.advance(1000);
        cancel.abort(new Error('client left'));
        await expect(second.result).rejects.toThrow('client left');
        expect(first.lost.aborted).toBe(false);
        expect(await first.extend(60_000)).toBe(true);
        expect(await locks.acquire('a', { leaseMs: 1000, waitMs: 0 })).toBeNull();
      });

      it('throws the reason of a signal that is aborted already, and takes nothing', async () => {
        const { locks } = await start();
        const signal = AbortSignal.abort(new Error('too late'));
        await expect(locks.acquire('a', { leaseMs: 1000, waitMs: 10, signal })).rejects.toThrow('too late');
        held(await locks.acquire('a', { leaseMs: 1000, waitMs: 0 }));
      });

      it('serves waiters in the order in which they came, one at a time', async (context) => {
        const { order } = driver.unsupported ?? {};
        if (order !== undefined) context.skip(order);
        const { clock, locks } = await start();
        let lease = held(await locks.acquire('a', { leaseMs: 600_000, waitMs: 0 }));
        const served: number[] = [];
        const waits = Array.from({ length: 8 }, async (_, index) => {
          const own = held(await locks.acquire('a', { leaseMs: 600_000, waitMs: 600_000 }));
          served.push(index);
          return own;
        });
        for (const [index, wait] of waits.entries()) {
          await lease.release();
          await clock.advance(100);
          lease = await wait;
          expect(served).toEqual(Array.from({ length: index + 1 }, (_, at) => at));
        }
      });
    });

    describe('a lease that runs out', () => {
      it('aborts `lost` when leaseMs have passed, and not before', async () => {
        const { clock, locks } = await start();
        const lease = held(await locks.acquire('a', { leaseMs: 5000, waitMs: 0 }));
        await clock.advance(4000);
        expect(lease.lost.aborted).toBe(false);
        await clock.advance(2000);
        expect(lease.lost.aborted).toBe(true);
      });

      it('frees the lock for the next one who asks', async () => {
        const { clock, locks } = await start();
        held(await locks.acquire('a', { leaseMs: 5000, waitMs: 0 }));
        await clock.advance(6000);
        held(await locks.acquire('a', { leaseMs: 5000, waitMs: 0 }));
      });

      it('passes the lock to one who waits', async () => {
        const { clock, locks } = await start();
        const first = held(await locks.acquire('a', { leaseMs: 5000, waitMs: 0 }));
        const second = watch(locks.acquire('a', { leaseMs: 5000, waitMs: 60_000 }));
        await clock.advance(10_000);
        const lease = held(await second.result);
        expect(first.lost.aborted).toBe(true);
        expect(lease.token).not.toBe(first.token);
      });

      it('cannot be extended any more, and its release leaves the next holder alone', async () => {
        const { clock, locks } = await start();
        const first = held(await locks.acquire('a', { leaseMs: 5000, waitMs: 0 }));
        await clock.advance(6000);
        const second = held(await locks.acquire('a', { leaseMs: 5000, waitMs: 0 }));
        expect(await first.extend(60_000)).toBe(false);
        await first.release();
        expect(second.lost.aborted).toBe(false);
        expect(await locks.acquire('a', { leaseMs: 1000, waitMs: 0 })).toBeNull();
        expect(await second.extend(5000)).toBe(true);
      });
    });

    describe('extending and releasing', () => {
      it('holds on for another leaseMs, counted from the extension', async () => {
        const { clock, locks } = await start();
        const lease = held(await locks.acquire('a', { leaseMs: 5000, waitMs: 0 }));
        for (let round = 0; round < 5; round += 1) {
          await clock.advance(4000);
          expect(await lease.extend(5000)).toBe(true);
        }
        expect(lease.lost.aborted).toBe(false);
        await clock.advance(6000);
        expect(lease.lost.aborted).toBe(true);
      });

      it('may shorten a lease too', async () => {
        const { clock, locks } = await start();
        const lease = held(await locks.acquire('a', { leaseMs: 60_000, waitMs: 0 }));
        expect(await lease.extend(1000)).toBe(true);
        await clock.advance(2000);
        expect(lease.lost.aborted).toBe(true);
        held(await locks.acquire('a', { leaseMs: 1000, waitMs: 0 }));
      });

      it('is released once: a second release does not take the lock from its next holder', async () => {
        const { locks } = await start();
        const first = held(await locks.acquire('a', { leaseMs: 5000, waitMs: 0 }));
        await first.release();
        const second = held(await locks.acquire('a', { leaseMs: 5000, waitMs: 0 }));
        await first.release();
        expect(await locks.acquire('a', { leaseMs: 5000, waitMs: 0 })).toBeNull();
        expect(await first.extend(5000)).toBe(false);
        expect(await second.extend(5000)).toBe(true);
      });

      it('does not count a released lease as lost, also when its time has passed', async () => {
        const { clock, locks } = await start();
        const lease = held(await locks.acquire('a', { leaseMs: 5000, waitMs: 0 }));
        await lease.release();
        await clock.advance(10_000);
        expect(lease.lost.aborted).toBe(false);
      });
    });

    describe('closing', () => {
      it('is reachable until then, and says so when it is not', async () => {
        const { locks } = await start();
        await expect(locks.ping()).resolves.toBeUndefined();
        await locks.close();
        await expect(locks.ping()).rejects.toThrow(Error);
      });

      it('ends waits with null, loses the leases, and gives no lock any more', async () => {
        const { clock, locks } = await start();
        const lease = held(await locks.acquire('a', { leaseMs: 60_000, waitMs: 0 }));
        const waiting = watch(locks.acquire('a', { leaseMs: 1000, waitMs: 60_000 }));
        await clock.advance(0);
        await locks.close();
        expect(await waiting.result).toBeNull();
        expect(lease.lost.aborted).toBe(true);
        expect(await lease.extend(1000)).toBe(false);
        await lease.release();
        expect(await locks.acquire('b', { leaseMs: 1000, waitMs: 0 })).toBeNull();
      });
    });
  });
}

function held(lease: Lease | null): Lease {
  if (lease === null) throw new Error('Expected to get the lock');
  return lease;
}

/** Lets a test see whether a promise has settled, without waiting for it. */
function watch<Value>(result: Promise<Value>): { result: Promise<Value>; settled: () => boolean } {
  let settled = false;
  const note = (): void => {
    settled = true;
  };
  result.then(note, note);
  return { result, settled: () => settled };
}
