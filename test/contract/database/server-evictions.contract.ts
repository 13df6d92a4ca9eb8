import { describe, expect, it } from 'vitest';
import { evictOne, pinOne, referTo, wait } from './eviction-races.contract.ts';
import { keyOf } from './records.ts';
import { freshServerStore, type ServerSubject } from './server-subject.ts';
import { store } from './stored-nars.ts';

/** Long enough for a statement that was sent before to have come to the lock. */
const TRIPS = 20;

/**
 * What chance meets too seldom: an eviction that has looked for what keeps a NAR, and is made to wait for its row until
 * something does and has found it present.
 */
export function testServerEvictions(subject: ServerSubject): void {
  describe('an eviction that waits for the row of a NAR', () => {
    it.each([
      ['a pin', pinOne],
      ['a pushed path that refers to it', referTo],
    ])('finds %s that came meanwhile', async (_, keep) => {
      const { store: index, database } = await freshServerStore(subject);
      await store(index, 1, { pushed: true });
      const letGo = await subject.holdNar(database, keyOf(1));
      const evicting = evictOne(index, 1);
      let isKept: boolean;
      try {
        await wait(index, TRIPS);
        isKept = await keep(index, 1);
      } finally {
        await letGo();
      }
      expect([isKept, await evicting]).toEqual([true, false]);
      expect((await index.getNar(keyOf(1)))?.nar.state).toBe('present');
    });
  });
}
