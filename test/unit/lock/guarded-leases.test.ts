import { stat } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { guardLeases } from '../../../src/lock/guarded-leases.ts';
import { type LeaseService, LockRefusedError } from '../../../src/lock/lease-service.ts';
import { systemClock } from '../../../src/telemetry/system-clock.ts';
import { createFakeClock } from '../../contract/lock/fake-clock.ts';
import { testPlatform } from '../../contract/lock/lock-platform.ts';

const DOWN = () => Promise.reject(new LockRefusedError('script: refused'));

/** A service whose takes are answered by `take`, which may be replaced. */
function setting(take: LeaseService['take']) {
  const clock = createFakeClock();
  const platform = testPlatform(clock);
  const script = { take, sent: 0, released: 0 };
  const guarded = guardLeases(
    {
      description: 'script:',
      take: (...given) => {
        script.sent += 1;
        return script.take(...given);
      },
      extend: () => Promise.resolve(true),
      release: () => {
        script.released += 1;
        return Promise.resolve();
      },
      ping: () => script.take('ping', 'ping', 1).then(() => undefined),
      close: () => Promise.resolve(),
    },
    { platform, monotonic: () => clock.now(), answerMs: 500 },
  );
  const ask = (): Promise<boolean> => guarded.take('a', 'token', 10_000);
  /** Whether it said yes, or what went wrong. */
  const outcome = (): Promise<unknown> => ask().catch((error: unknown) => String(error));
  return { clock, platform, script, guarded, ask, outcome };
}

describe('A lock service at fault', () => {
  it('is sent a request once more where the connection broke', async () => {
    const broken = () => Promise.reject(new Error('ECONNRESET'));
    const { clock, ask, script, platform } = setting(broken);
    const asking = ask();
    await clock.advance(5);
    script.take = () => Promise.resolve(true);
    await clock.advance(30);
    expect(await asking).toBe(true);
    expect(script.sent).toBe(2);
    expect(Object.fromEntries(platform.operations)).toEqual({ 'take ok': 1 });
  });

  it('is not asked twice for what it refuses', async () => {
    const { outcome, script } = setting(DOWN);
    expect(await outcome()).toContain('script: refused');
    expect(script.sent).toBe(1);
    expect(script.released).toBe(0);
  });

  it('is waited for so long and no longer; what it gives late is given back', async () => {
    const answer = Promise.withResolvers<boolean>();
    const { clock, outcome, script, platform } = setting(() => answer.promise);
    const asking = outcome();
    await clock.advance(499);
    expect(script.released).toBe(0);
    await clock.advance(1);
    expect(await asking).toContain('script: gave no answer within 500 ms');
    // At once, in case that the request was executed, and again, in case that this one overtook it.
    expect(script.released).toBe(1);
    answer.resolve(true);
    await platform.settled();
    expect(script.released).toBe(2);
    expect(clock.sleeping).toBe(0);
  });

  it('is not late where it is the process that had no time to read its answer', async () => {
    const { platform, script } = setting(() => Promise.resolve(true));
    const leases: LeaseService = {
      description: 'script:',
      take: () => stat('/').then(() => true),
      extend: () => Promise.resolve(true),
      release: () => {
        script.released += 1;
        return Promise.resolve();
      },
      ping: () => Promise.resolve(),
      close: () => Promise.resolve(),
    };
    const guarded = guardLeases(leases, { platform: { ...platform, clock: systemClock }, answerMs: 100 });
    const asking = guarded.take('a', 'token', 10_000);
    const end = performance.now() + 300;
    while (performance.now() < end);
    expect(await asking).toBe(true);
    expect(script.released).toBe(0);
  });

  it('is left alone after three faults in a row, with one line, and probed once after a growing time', async () => {
    const { clock, outcome, script, platform } = setting(DOWN);
    for (let fault = 0; fault < 3; fault += 1) await outcome();
    expect(platform.circuits.get('script:')).toBe(1);
    for (const openMs of [900, 1800, 3600]) {
      script.sent = 0;
      expect(await outcome()).toContain('is left alone');
      await clock.advance(openMs - 1);
      expect(await outcome()).toContain('is left alone');
      expect(script.sent).toBe(0);
      await clock.advance(1);
      await Promise.all([outcome(), outcome(), outcome()]);
      expect(script.sent).toBe(1);
    }
    expect(platform.logs.map(({ message }) => message)).toEqual([
      'A lock service is at fault: work goes on without it',
    ]);
    expect(platform.operations.get('take skipped')).toBe(12);
    for (let probe = 0; probe < 10; probe += 1) {
      await clock.advance(60_000);
      await outcome();
    }
    // Never longer than a minute.
    await clock.advance(60_000);
    script.take = () => Promise.resolve(true);
    expect(await outcome()).toBe(true);
    expect(await outcome()).toBe(true);
    expect(platform.circuits.get('script:')).toBe(0);
    expect(platform.logs.map(({ message }) => message)).toEqual([
      'A lock service is at fault: work goes on without it',
      'A lock service answers again',
    ]);
  });

  it('is not left alone where an answer comes between the faults', async () => {
    const { outcome, script, platform } = setting(DOWN);
    for (let round = 0; round < 5; round += 1) {
      script.take = DOWN;
      await outcome();
      await outcome();
      script.take = () => Promise.resolve(false);
      expect(await outcome()).toBe(false);
    }
    expect(platform.logs).toEqual([]);
  });

  it('is probed again where a probe never tells', async () => {
    const { clock, outcome, script } = setting(DOWN);
    for (let fault = 0; fault < 3; fault += 1) await outcome();
    await clock.advance(1000);
    // Its request was dropped with its client: it is not even counted as a fault.
    script.take = () => new Promise(() => undefined);
    void outcome();
    expect(await outcome()).toContain('is left alone');
    script.take = () => Promise.resolve(true);
    await clock.advance(5000);
    expect(await outcome()).toBe(true);
  });

  it('is asked by ping whatever is known of it, and taken back at once when that goes well', async () => {
    const { guarded, outcome, script, platform } = setting(DOWN);
    for (let fault = 0; fault < 3; fault += 1) await outcome();
    await expect(guarded.ping()).rejects.toThrow('refused');
    script.take = () => Promise.resolve(true);
    await guarded.ping();
    expect(await outcome()).toBe(true);
    expect(platform.logs).toHaveLength(2);
  });
});
