import { describe, expect, it } from 'vitest';
import type { WorkLock, WorkLocks } from '../../../src/cache/work-lock.ts';
import { isWorthWaiting, waitForOther } from '../../../src/cache/fill/wait-for-other.ts';
import { createFakeClock } from '../../contract/lock/fake-clock.ts';

const never = (): Promise<never> => new Promise(() => undefined);

/** A wait of ten seconds over a clock that stands still. */
function waiting(
  take: WorkLocks['take'],
  isStored: (look: number) => boolean = () => false,
): {
  readonly clock: ReturnType<typeof createFakeClock>;
  readonly found: ReturnType<typeof waitForOther>;
  readonly looks: () => number;
  readonly leave: AbortController;
} {
  const clock = createFakeClock();
  const leave = new AbortController();
  let looks = 0;
  const found = waitForOther({
    platform: { clock, random: () => 0.5 },
    locks: { take },
    key: 'nar/a.nar',
    waitMs: 10_000,
    isStored: () => Promise.resolve(isStored((looks += 1))),
    signal: leave.signal,
  });
  found.catch(() => undefined);
  return { clock, found, looks: () => looks, leave };
}

function lock(onRelease: () => void = () => undefined): WorkLock {
  return {
    kind: 'held',
    lost: new AbortController().signal,
    release: () => {
      onRelease();
      return Promise.resolve();
    },
  };
}

describe('waiting for another instance', () => {
  it('looks ten times at most, and not beyond the bound', async () => {
    const { clock, found, looks } = waiting(() => Promise.resolve({ kind: 'taken' }));
    await clock.advance(10_000);
    expect(await found).toEqual({ kind: 'taken' });
    expect(looks()).toBe(10);
    expect(clock.sleeping).toBe(0);
  });

  it('ends with the first look that finds the body, and asks for the lock no more', async () => {
    const asked: AbortSignal[] = [];
    const { clock, found, looks } = waiting(
      (_key, _wait, signal) => {
        asked.push(signal);
        return never();
      },
      (look) => look === 3,
    );
    await clock.advance(800);
    expect(await found).toEqual({ kind: 'stored' });
    expect(looks()).toBe(3);
    expect(asked.map(({ aborted }) => aborted)).toEqual([true]);
  });

  it('gives back a lock where the body is there', async () => {
    let released = 0;
    const { found } = waiting(
      () => Promise.resolve(lock(() => (released += 1))),
      () => true,
    );
    expect(await found).toEqual({ kind: 'stored' });
    expect(released).toBe(1);
  });

  it('gives back a lock that comes when the body was seen already', async () => {
    let released = 0;
    const granted = Promise.withResolvers<WorkLock>();
    const { clock, found } = waiting(
      () => granted.promise,
      (look) => look === 1,
    );
    await clock.advance(200);
    expect(await found).toEqual({ kind: 'stored' });
    granted.resolve(lock(() => (released += 1)));
    await clock.advance(1);
    expect(released).toBe(1);
  });

  it('gives back a lock that came just before nobody waits any more', async () => {
    let released = 0;
    const { found, leave } = waiting(
      () => Promise.resolve(lock(() => (released += 1))),
      () => {
        leave.abort(new Error('out of time'));
        return false;
      },
    );
    await expect(found).rejects.toThrow('out of time');
    expect(released).toBe(1);
  });

  it('gives the lock where its holder stored nothing', async () => {
    const held = lock();
    const { found } = waiting(() => Promise.resolve(held));
    expect(await found).toBe(held);
  });

  it('goes on looking where the lock service fails', async () => {
    const { clock, found } = waiting(
      () => Promise.resolve({ kind: 'uncoordinated' }),
      (look) => look === 2,
    );
    await clock.advance(1_000);
    expect(await found).toEqual({ kind: 'stored' });
  });

  it('ends when it is told to', async () => {
    const { found, leave } = waiting((_key, _wait, signal) => {
      const { promise, reject } = Promise.withResolvers<WorkLock>();
      signal.addEventListener('abort', () => reject(signal.reason));
      return promise;
    });
    leave.abort(new Error('shutting down'));
    await expect(found).rejects.toThrow('shutting down');
  });
});

describe('whether to wait', () => {
  it.each([
    [160 * 2 ** 20, 0, true],
    [160 * 2 ** 20 + 1, 0, false],
    [2 ** 31, 0, false],
    [null, 600 * 2 ** 20, true],
    [null, 20 * 2 ** 30, false],
  ])('for %s bytes, of a NAR of %i: %s', (fileSize, narSize, worth) => {
    expect(isWorthWaiting({ fileSize, narSize }, 10_000)).toBe(worth);
  });
});
