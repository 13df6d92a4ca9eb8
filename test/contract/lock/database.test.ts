import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { LAST_PATIENCE_MS } from '../../../src/platform.ts';
import { createSqliteStore } from '../../../src/database/sqlite/node.ts';
import { createDatabaseLocks } from '../../../src/lock/database.ts';
import { systemClock } from '../../../src/telemetry/system-clock.ts';
import { createFakeClock } from './fake-clock.ts';
import { testLockManager } from './lock-manager.contract.ts';
import { testPlatform } from './lock-platform.ts';

/** No other wait is as long: as long as somebody sleeps for it, a statement is under way. */
const ANSWER_MS = 7_123;

describe('Locks in the database', () => {
  let directory: string;
  let store: Awaited<ReturnType<typeof createSqliteStore>>;
  let control: DatabaseSync;
  let managers = 0;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'snowcap-locks-'));
    store = await createSqliteStore({ path: join(directory, 'index.db') });
    control = new DatabaseSync(join(directory, 'index.db'));
  });
  afterAll(async () => {
    control.close();
    await store.close();
    await rm(directory, { recursive: true, force: true });
  });

  testLockManager({
    name: 'leases in SQLite',
    create(clock) {
      clock.attach({
        async elapse(milliseconds) {
          control.prepare('update leases set ends_at = ends_at - ?').run(milliseconds);
        },
        busy: () => clock.sleepingFor(ANSWER_MS - LAST_PATIENCE_MS) > 0,
      });
      managers += 1;
      return createDatabaseLocks({
        leases: store.leases,
        prefix: `manager ${managers}:`,
        platform: testPlatform(clock),
        monotonic: () => clock.now(),
        answerMs: ANSWER_MS,
      });
    },
    unsupported: { order: 'the table keeps no queue: the waiter that looks first is the next one' },
  });

  it('are those of all instances, and each release is seen by those who wait', async () => {
    const managers = Array.from({ length: 3 }, () =>
      createDatabaseLocks({ leases: store.leases, platform: testPlatform(systemClock) }),
    );
    let holding = 0;
    await Promise.all(
      managers.map(async (locks) => {
        const lease = await locks.acquire('shared', { leaseMs: 60_000, waitMs: 20_000 });
        expect(lease).not.toBeNull();
        expect((holding += 1)).toBe(1);
        await systemClock.sleep(5);
        holding -= 1;
        await lease?.release();
      }),
    );
    for (const locks of managers) await locks.close();
    // The database is not theirs to close.
    await store.ping();
  });

  it('now and then leave no row of those who died', async () => {
    const clock = createFakeClock();
    const platform = testPlatform(clock);
    const rows = () => control.prepare(`select name from leases where name like 'cleaning:%'`).all();
    const locks = (random: number) =>
      createDatabaseLocks({
        leases: store.leases,
        prefix: 'cleaning:',
        platform: { ...platform, random: () => random },
      });
    await locks(0.5).acquire('of one who died', { leaseMs: 1000, waitMs: 0 });
    control.exec('update leases set ends_at = ends_at - 2 * 3600000');
    await (await locks(0.5).acquire('a', { leaseMs: 1000, waitMs: 0 }))?.release();
    expect(rows()).toEqual([{ name: 'cleaning:of one who died' }]);
    await (await locks(0).acquire('a', { leaseMs: 1000, waitMs: 0 }))?.release();
    await platform.settled();
    expect(rows()).toEqual([]);
  });

  it('throw while the database is away, and leave it alone after a while', async () => {
    const gone = await createSqliteStore({ path: ':memory:' });
    const platform = testPlatform(systemClock);
    const locks = createDatabaseLocks({ leases: gone.leases, platform });
    onTestFinished(() => locks.close());
    await gone.close();
    await expect(locks.acquire('a', { leaseMs: 1000, waitMs: 5000 })).rejects.toThrow(
      'Lease operation take failed',
    );
    await expect(locks.ping()).rejects.toThrow('ping');
    await expect(locks.acquire('a', { leaseMs: 1000, waitMs: 5000 })).rejects.toThrow('take');
    await expect(locks.acquire('a', { leaseMs: 1000, waitMs: 5000 })).rejects.toThrow('left alone');
    expect(platform.logs).toHaveLength(1);
    expect(locks.description).toBe('sqlite::memory:');
  });
});
