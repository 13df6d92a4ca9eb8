import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import type { Lease, LockManager } from '../../../src/lock/lock-manager.ts';
import { systemClock } from '../../../src/telemetry/system-clock.ts';
import { skipReason } from '../../support/require.ts';
import { until } from '../../support/test-cache.ts';
import { createFakeClock } from './fake-clock.ts';
import { type TestPlatform, testPlatform } from './lock-platform.ts';
import { type Redises, startRedises, type Transport } from './redis-under-test.ts';

/** Long enough for any machine: what is late in these tests is so by a clock that they set. */
const ANSWER_MS = 20_000;
const ONCE = { leaseMs: 60_000, waitMs: 0 };

const missing = skipReason('redis-server');

describe.skipIf(missing !== null)(`Three Redises at fault${missing === null ? '' : ` (${missing})`}`, () => {
  let redises: Redises;

  beforeAll(async () => {
    redises = await startRedises(3);
  });
  afterEach(async () => {
    for (const bridge of redises.bridges) bridge.fault = null;
    for (const server of redises.servers) {
      server.resume();
      // Killed by the test, where it does not answer.
      await server.command('FLUSHALL').catch(() => server.restart());
    }
  });
  afterAll(() => redises.stop());

  function open(transport: Transport, platform: TestPlatform = testPlatform(systemClock)): LockManager {
    const locks = redises.locks(transport, 3, { platform, answerMs: ANSWER_MS });
    onTestFinished(() => locks.close());
    return locks;
  }

  /** Who holds it in each of those that answer. */
  const holders = (name: string): Promise<readonly unknown[]> =>
    Promise.all(
      redises.servers.map((server) => server.command('GET', `snowcap:${name}`).catch(() => 'no answer')),
    );

  it('one killed: locks go on, each to one holder, with one line', async () => {
    const platform = testPlatform(systemClock);
    const [one, other] = [open('TCP', platform), open('TCP')];
    const before = held(await one.acquire('before', ONCE));
    await redises.servers[1]?.kill();
    expect(await other.acquire('before', ONCE)).toBeNull();
    for (let round = 0; round < 5; round += 1) {
      const lease = held(await one.acquire('a', ONCE));
      expect(await other.acquire('a', ONCE)).toBeNull();
      expect(await lease.extend(60_000)).toBe(true);
      await lease.release();
      held(await other.acquire(`of round ${round}`, ONCE));
    }
    expect(await before.extend(60_000)).toBe(true);
    await one.ping();
    // A majority is answered before the one that is gone was tried twice.
    await vi.waitFor(() => expect(platform.logs).toHaveLength(1), { timeout: 5_000 });
    await held(await one.acquire('b', ONCE)).release();
    expect(platform.logs).toHaveLength(1);
  });

  it('one that stands still: nobody waits for it', async () => {
    const clock = createFakeClock();
    const platform = testPlatform(clock);
    const locks = open('TCP', platform);
    held(await locks.acquire('connected', ONCE));
    redises.servers[2]?.pause();
    // No time passes for whoever waits for an answer: all of these are decided by the other two.
    const lease = held(await locks.acquire('a', ONCE));
    expect(await lease.extend(60_000)).toBe(true);
    expect(await locks.acquire('a', ONCE)).toBeNull();
    await lease.release();
    expect((await holdersOfFirstTwo()).every((holder) => holder === null)).toBe(true);
    await locks.ping();
    // What was sent to it is done when it goes on, and undone after that.
    redises.servers[2]?.resume();
    await until(async () => (await holders('a')).every((holder) => holder === null));
    held(await locks.acquire('a', ONCE));
  });

  const holdersOfFirstTwo = (): Promise<readonly unknown[]> =>
    Promise.all(redises.servers.slice(0, 2).map((server) => server.command('GET', 'snowcap:a')));

  it('one that answers late, over REST: what it gives after the release is given back', async () => {
    const platform = testPlatform(systemClock);
    const locks = open('REST', platform);
    const [, , third] = redises.bridges;
    if (third === undefined) throw new Error('No third Redis');
    third.fault = (command) =>
      command[1]?.includes('holder') === true ? { kind: 'delayed', milliseconds: 300 } : null;
    const before = third.commands.length;
    const lease = held(await locks.acquire('a', ONCE));
    await lease.release();
    await platform.settled();
    await until(() => third.underWay === 0);
    expect(await holders('a')).toEqual([null, null, null]);
    // Taken, released before that was done, and released again.
    expect(third.commands.slice(before)).toHaveLength(3);
  });

  it.each(['TCP', 'REST'] as const)(
    'two killed, over %s: nothing can be locked, and it says so',
    async (transport) => {
      const platform = testPlatform(systemClock);
      const locks = open(transport, platform);
      const lease = held(await locks.acquire('before', ONCE));
      await redises.servers[0]?.kill();
      await redises.servers[1]?.kill();
      await expect(locks.acquire('a', { leaseMs: 60_000, waitMs: 60_000 })).rejects.toThrow(
        '2 of 3 lock services are at fault',
      );
      await expect(lease.extend(60_000)).rejects.toThrow('at fault');
      // By its own count it is held until its time is over.
      expect(lease.lost.aborted).toBe(false);
      await expect(locks.ping()).rejects.toThrow('2 of 3');
      await platform.settled();
      // What the third one gave was given back.
      expect((await holders('a'))[2]).toBeNull();
      await redises.servers[0]?.restart();
      await until(() => locks.acquire('a', ONCE).then(Boolean, () => false));
      await locks.ping();
    },
  );

  it('a lock of which a majority forgot is another’s', async () => {
    const [one, other] = [open('TCP'), open('TCP')];
    const lease = held(await one.acquire('a', ONCE));
    await redises.servers[0]?.restart();
    await redises.servers[1]?.restart();
    const next = held(await other.acquire('a', ONCE));
    expect(await lease.extend(60_000)).toBe(false);
    expect(lease.lost.aborted).toBe(true);
    await lease.release();
    expect(await next.extend(60_000)).toBe(true);
  });

  it('a lock held in a minority only is refused, and leaves nothing in the others', async () => {
    const platform = testPlatform(systemClock);
    const locks = open('REST', platform);
    for (const server of redises.servers.slice(0, 2)) await server.command('SET', 'snowcap:a', 'other');
    expect(await locks.acquire('a', ONCE)).toBeNull();
    await platform.settled();
    expect(await holders('a')).toEqual(['other', 'other', null]);
    await redises.servers[0]?.command('DEL', 'snowcap:a');
    const lease = held(await locks.acquire('a', ONCE));
    expect(await holders('a')).toEqual([lease.token, 'other', lease.token]);
  });

  it('of many who want one lock, over both transports, each gets it in turn and never two at once', async () => {
    const managers = [open('TCP'), open('REST'), open('TCP'), open('REST')];
    let holding = 0;
    let most = 0;
    await Promise.all(
      managers.map(async (locks) => {
        for (let round = 0; round < 3; round += 1) {
          const lease = held(await locks.acquire('a', { leaseMs: 60_000, waitMs: 25_000 }));
          holding += 1;
          most = Math.max(most, holding);
          await new Promise((resolve) => {
            setTimeout(resolve, 5);
          });
          holding -= 1;
          await lease.release();
        }
      }),
    );
    expect(most).toBe(1);
  });
});

function held(lease: Lease | null): Lease {
  if (lease === null) throw new Error('Expected to get the lock');
  return lease;
}
