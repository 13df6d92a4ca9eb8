import { afterAll, beforeAll, describe } from 'vitest';
import { LAST_PATIENCE_MS } from '../../../src/platform.ts';
import { skipReason } from '../../support/require.ts';
import { testLockManager } from './lock-manager.contract.ts';
import { testPlatform } from './lock-platform.ts';
import { type Redises, startRedises } from './redis-under-test.ts';

/** No other wait is as long: as long as somebody sleeps for it, a command is under way. */
const ANSWER_MS = 7_123;

const missing = skipReason('redis-server');

describe.skipIf(missing !== null)(`Locks in Redis${missing === null ? '' : ` (${missing})`}`, () => {
  let redises: Redises;
  let managers = 0;

  beforeAll(async () => {
    redises = await startRedises(3);
  });
  afterAll(() => redises.stop());

  for (const transport of ['REST', 'TCP'] as const) {
    for (const count of [1, 3]) {
      testLockManager({
        name: `${count === 1 ? 'one Redis' : 'three Redises'} over ${transport}`,
        create(clock) {
          clock.attach({
            elapse: (milliseconds) => redises.elapse(milliseconds),
            busy: () => clock.sleepingFor(ANSWER_MS - LAST_PATIENCE_MS) > 0,
          });
          managers += 1;
          return redises.locks(
            transport,
            count,
            { platform: testPlatform(clock), monotonic: () => clock.now(), answerMs: ANSWER_MS },
            `manager ${managers}:`,
          );
        },
        unsupported: {
          order:
            'Redis keeps no queue: a waiter that looks again, or hears of the release first, is the next one',
        },
      });
    }
  }
});
