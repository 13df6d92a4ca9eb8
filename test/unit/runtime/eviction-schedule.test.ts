import { describe, expect, it } from 'vitest';
import type { BackgroundJob } from '../../../src/platform.ts';
import { scheduleEvictions } from '../../../src/runtime/node/eviction-schedule.ts';
import { until } from '../../support/test-cache.ts';

/** A cache that notes what it is asked for, and takes its time. */
function cacheOf(work: Promise<unknown> = Promise.resolve()) {
  const jobs: BackgroundJob[] = [];
  const signals: (AbortSignal | undefined)[] = [];
  return {
    jobs,
    signals,
    async run(job: BackgroundJob, signal?: AbortSignal) {
      jobs.push(job);
      signals.push(signal);
      await work;
      return { kind: 'done' as const };
    },
  };
}

describe('the schedule of evictions', () => {
  it('has one done at each turn, one at a time, until it is stopped', async () => {
    const long = Promise.withResolvers<void>();
    const cache = cacheOf(long.promise);
    const schedule = scheduleEvictions(cache, '* * * * * *');
    await until(() => cache.jobs.length === 1);
    await new Promise((resolve) => setTimeout(resolve, 1100));
    expect(cache.jobs).toEqual([{ kind: 'evict' }]);
    long.resolve();
    await until(() => cache.jobs.length === 2);
    expect(cache.signals[1]?.aborted).toBe(false);
    schedule.stop();
    expect(cache.signals[1]?.aborted).toBe(true);
  });

  it('does nothing where it is off', async () => {
    const cache = cacheOf();
    const schedule = scheduleEvictions(cache, null);
    await new Promise((resolve) => setTimeout(resolve, 50));
    schedule.stop();
    expect(cache.jobs).toEqual([]);
  });
});
