import { afterEach, describe, expect, it, vi } from 'vitest';
import { systemClock } from '../../../src/telemetry/system-clock.ts';

describe('the system clock', () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  it('tells milliseconds since the epoch', () => {
    vi.useFakeTimers({ now: 1234 });
    expect(systemClock.now()).toBe(1234);
  });

  it('sleeps as long as it is told to, also longer than a timer can', async () => {
    vi.useFakeTimers({ now: 0 });
    let woke = 0;
    const days = 60 * 24 * 3600 * 1000;
    const sleep = systemClock.sleep(days).then(() => {
      woke = Date.now();
    });
    await vi.advanceTimersByTimeAsync(days - 1);
    expect(woke).toBe(0);
    await vi.advanceTimersByTimeAsync(1);
    await sleep;
    expect(woke).toBe(days);
  });

  it('rejects with the reason of the signal, and leaves no timer', async () => {
    vi.useFakeTimers();
    const cancel = new AbortController();
    const sleep = systemClock.sleep(1000, cancel.signal);
    cancel.abort(new Error('no more'));
    await expect(sleep).rejects.toThrow('no more');
    await expect(systemClock.sleep(1000, cancel.signal)).rejects.toThrow('no more');
    expect(vi.getTimerCount()).toBe(0);
  });
});
