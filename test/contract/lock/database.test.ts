import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, describe } from 'vitest';
import { createSqliteStore } from '../../../src/database/sqlite/node.ts';
import { createDatabaseLocks } from '../../../src/lock/database.ts';
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
        busy: () => clock.sleepingFor(ANSWER_MS) > 0,
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
});
