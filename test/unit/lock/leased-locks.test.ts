import { describe, expect, it } from 'vitest';
import type { LeaseService } from '../../../src/lock/lease-service.ts';
import { createLeasedLocks } from '../../../src/lock/leased-locks.ts';
import type { Lease, LockManager } from '../../../src/lock/lock-manager.ts';
import { createFakeClock, type FakeClock } from '../../contract/lock/fake-clock.ts';
import { testPlatform } from '../../contract/lock/lock-platform.ts';

/** A service that answers what the test says, and when. */
interface Script extends LeaseService {
  readonly asked: string[];
  take(name: string, token: string, leaseMs: number): Promise<boolean>;
  release(name: string, token: string): Promise<void>;
  tell(name: string): void;
}

interface Setting {
  readonly clock: FakeClock;
  readonly service: Script;
  readonly locks: LockManager;
  readonly settled: () => Promise<void>;
}

/** @param answers replaces what the service does; left out, it says yes to all */
function setting(
  answers: Partial<Pick<LeaseService, 'take' | 'extend' | 'release'>> = {},
  clocks: { clock?: FakeClock; monotonic?: () => number } = {},
): Setting {
  const clock = clocks.clock ?? createFakeClock();
  const asked: string[] = [];
  let told: (name: string) => void = () => undefined;
  const service: Script = {
    description: 'script:',
    asked,
    take: (name, token, leaseMs) => {
      asked.push(`take ${token}`);
      return answers.take?.(name, token, leaseMs) ?? Promise.resolve(true);
    },
    extend: (name, token, leaseMs) => {
      asked.push(`extend ${token}`);
      return answers.extend?.(name, token, leaseMs) ?? Promise.resolve(true);
    },
    release: (name, token) => {
      asked.push(`release ${token}`);
      return answers.release?.(name, token) ?? Promise.resolve();
    },
    ping: () => Promise.resolve(),
    onRelease(listener) {
      told = listener;
    },
    tell: (name) => told(name),
    close: () => Promise.resolve(),
  };
  const platform = testPlatform(clock);
  let tokens = 0;
  const locks = createLeasedLocks(service, {
    platform,
    monotonic: clocks.monotonic ?? (() => clock.now()),
    token: () => `token-${(tokens += 1)}`,
  });
  return { clock, service, locks, settled: () => platform.settled() };
}

async function held(acquired: Promise<Lease | null>): Promise<Lease> {
  const lease = await acquired;
  if (lease === null) throw new Error('Expected to get the lock');
  return lease;
}

const ONCE = { leaseMs: 10_000, waitMs: 0 };

describe('A lease kept elsewhere', () => {
  it('is counted from before the request: what the answer took is gone from it', async () => {
    const { clock, locks } = setting({
      take: async () => {
        await clock.sleep(4000);
        return true;
      },
    });
    const acquiring = held(locks.acquire('a', ONCE));
    await clock.advance(4000);
    const lease = await acquiring;
    await clock.advance(5800);
    expect(lease.lost.aborted).toBe(false);
    // 10 s, less 1 % and 2 ms for clocks that go at another pace.
    await clock.advance(100);
    expect(lease.lost.aborted).toBe(true);
  });

  it('is over by our count before it is by that of the service', async () => {
    const { clock, locks } = setting();
    const lease = await held(locks.acquire('a', ONCE));
    await clock.advance(9898);
    expect(lease.lost.aborted).toBe(true);
  });

  it('is none, and given back, where the answer took longer than the lease', async () => {
    const { clock, locks, service } = setting({
      take: async () => {
        await clock.sleep(10_000);
        return true;
      },
    });
    const acquiring = locks.acquire('a', ONCE);
    await clock.advance(10_000);
    expect(await acquiring).toBeNull();
    expect(service.asked).toEqual(['take token-1', 'release token-1']);
  });

  it('has a token of its own for each try', async () => {
    let tries = 0;
    const { clock, locks, service } = setting({ take: () => Promise.resolve((tries += 1) === 3) });
    const acquiring = held(locks.acquire('a', { leaseMs: 10_000, waitMs: 1000 }));
    await clock.advance(1000);
    expect((await acquiring).token).toBe('token-3');
    expect(service.asked).toEqual(['take token-1', 'take token-2', 'take token-3']);
  });

  it('is lost when an extension finds it another’s', async () => {
    const { locks } = setting({ extend: () => Promise.resolve(false) });
    const lease = await held(locks.acquire('a', ONCE));
    expect(await lease.extend(10_000)).toBe(false);
    expect(lease.lost.aborted).toBe(true);
  });

  it('ends as before where an extension could not be asked for', async () => {
    const { clock, locks } = setting({ extend: () => Promise.reject(new Error('gone')) });
    const lease = await held(locks.acquire('a', ONCE));
    await clock.advance(5000);
    await expect(lease.extend(10_000)).rejects.toThrow('gone');
    expect(lease.lost.aborted).toBe(false);
    await clock.advance(4900);
    expect(lease.lost.aborted).toBe(true);
  });

  it('ends as early as a shortening asked for, though its answer was lost', async () => {
    const { clock, locks } = setting({ extend: () => Promise.reject(new Error('lost')) });
    const lease = await held(locks.acquire('a', ONCE));
    await expect(lease.extend(1000)).rejects.toThrow('lost');
    await clock.advance(1000);
    expect(lease.lost.aborted).toBe(true);
  });

  it('is not ours again where it ran out while its extension was under way', async () => {
    const { clock, locks } = setting({
      extend: async () => {
        await clock.sleep(20_000);
        return true;
      },
    });
    const lease = await held(locks.acquire('a', ONCE));
    const extending = lease.extend(60_000);
    await clock.advance(20_000);
    expect(await extending).toBe(false);
    expect(lease.lost.aborted).toBe(true);
  });

  it('is given back once, also after it ran out, and a release that fails throws nothing', async () => {
    const { clock, locks, service } = setting({ release: () => Promise.reject(new Error('gone')) });
    const lease = await held(locks.acquire('a', ONCE));
    await clock.advance(10_000);
    await lease.release();
    await lease.release();
    expect(service.asked.filter((each) => each.startsWith('release'))).toEqual(['release token-1']);
  });

  it('is given back when the locks are closed, and leaves no timer', async () => {
    const { clock, locks, service } = setting();
    const lease = await held(locks.acquire('a', ONCE));
    const released = await held(locks.acquire('b', ONCE));
    await released.release();
    await locks.close();
    expect(lease.lost.aborted).toBe(true);
    expect(released.lost.aborted).toBe(false);
    expect(service.asked.slice(2)).toEqual(['release token-2', 'release token-1']);
    expect(clock.sleeping).toBe(0);
  });
});

describe('A holder that was paused', () => {
  it('finds its lease over before it asks anything, although no timer had its turn', async () => {
    let passed = 0;
    const clock = { ...createFakeClock(), sleep: () => new Promise<void>(() => undefined) };
    const { locks, service } = setting({}, { clock, monotonic: () => passed });
    const lease = await held(locks.acquire('a', ONCE));
    passed = 10_000;
    expect(await lease.extend(10_000)).toBe(false);
    expect(lease.lost.aborted).toBe(true);
    expect(service.asked).toEqual(['take token-1']);
  });
});

describe('A clock that jumps', () => {
  /** Wall and monotonic clock apart; timers go by neither. */
  function apart(): { wall: number; steady: number; setting: Setting } {
    const times = { wall: 1_700_000_000_000, steady: 0 };
    const timers = createFakeClock();
    const clock = { ...timers, now: () => times.wall };
    return Object.assign(times, { setting: setting({}, { clock, monotonic: () => times.steady }) });
  }

  it('extends nothing when it is set back', async () => {
    const times = apart();
    const lease = await held(times.setting.locks.acquire('a', ONCE));
    times.wall -= 3_600_000;
    times.steady += 10_000;
    expect(await lease.extend(10_000)).toBe(false);
    expect(lease.lost.aborted).toBe(true);
  });

  it('ends a lease when the machine slept, though the monotonic clock stood still', async () => {
    const times = apart();
    const lease = await held(times.setting.locks.acquire('a', ONCE));
    times.wall += 3_600_000;
    expect(await lease.extend(10_000)).toBe(false);
  });

  it('ends a lease early when it is set forward, which costs a second download at most', async () => {
    const times = apart();
    const lease = await held(times.setting.locks.acquire('a', ONCE));
    times.wall += 20_000;
    expect(await lease.extend(10_000)).toBe(false);
    await lease.release();
    expect(times.setting.service.asked).toEqual(['take token-1', 'release token-1']);
  });

  it('leaves a lease alone when it jumps by less than is left', async () => {
    const times = apart();
    const lease = await held(times.setting.locks.acquire('a', ONCE));
    times.wall -= 5000;
    times.steady += 1000;
    expect(await lease.extend(10_000)).toBe(true);
  });
});

describe('One who waits', () => {
  it('asks after growing pauses: 18 times in five seconds', async () => {
    const { clock, locks, service } = setting({ take: () => Promise.resolve(false) });
    const acquiring = locks.acquire('a', { leaseMs: 10_000, waitMs: 5000 });
    const times: number[] = [];
    const began = clock.now();
    for (let at = 0; at <= 5000; at += 1) {
      if (service.asked.length > times.length) times.push(clock.now() - began);
      await clock.advance(1);
    }
    expect(await acquiring).toBeNull();
    expect(times.slice(0, 6)).toEqual([0, 19, 57, 132, 282, 582]);
    expect(times).toHaveLength(service.asked.length);
    expect(times).toHaveLength(18);
  });

  it('asks at once when it hears of the release, and of no other', async () => {
    let free = false;
    const { clock, locks, service } = setting({ take: () => Promise.resolve(free) });
    const acquiring = held(locks.acquire('a', { leaseMs: 10_000, waitMs: 5000 }));
    await clock.advance(3000);
    const before = service.asked.length;
    free = true;
    service.tell('b');
    await clock.advance(0);
    expect(service.asked).toHaveLength(before);
    service.tell('a');
    await acquiring;
    expect(service.asked).toHaveLength(before + 1);
    // Nobody listens any more.
    service.tell('a');
  });

  it('goes at once when its signal is aborted, though the service does not answer, and gives back what comes late', async () => {
    const answer = Promise.withResolvers<boolean>();
    const { locks, service, settled } = setting({ take: () => answer.promise });
    const cancel = new AbortController();
    const acquiring = locks.acquire('a', { ...ONCE, signal: cancel.signal });
    cancel.abort(new Error('client left'));
    await expect(acquiring).rejects.toThrow('client left');
    answer.resolve(true);
    await settled();
    expect(service.asked).toEqual(['take token-1', 'release token-1']);
  });

  it('is told at once that the service is at fault', async () => {
    const { locks } = setting({ take: () => Promise.reject(new Error('no lock service')) });
    await expect(locks.acquire('a', { leaseMs: 1000, waitMs: 5000 })).rejects.toThrow('no lock service');
  });
});
