import { describe, expect, it } from 'vitest';
import { freshServerStore, type ServerSubject } from './server-subject.ts';

/** The clock of the leases is the server's own. */
export function testServerLeases(subject: ServerSubject): void {
  describe('leases', () => {
    it('end by the clock of the server, to the millisecond', async () => {
      const { store, database } = await freshServerStore(subject);
      expect(await store.leases.take('fill', 'one', 3_600_000)).toBe(true);
      const [lease] = await subject.query('select token, ends_at from leases', database);
      expect(String(lease?.['token'])).toBe('one');
      expect(Math.abs(Number(lease?.['ends_at']) - Date.now() - 3_600_000)).toBeLessThan(10_000);
      expect(await store.leases.take('fill', 'two', 1000)).toBe(false);
      await subject.query('update leases set ends_at = ends_at - 3600001', database);
      expect(await store.leases.extend('fill', 'one', 1000)).toBe(false);
      expect(await store.leases.take('fill', 'two', 1000)).toBe(true);
    });

    it('are taken by one of many at once', async () => {
      const { store, url } = await freshServerStore(subject, { poolSize: 5 });
      const other = await subject.open({ url, checkSchema: 'on-fault', poolSize: 5 });
      const takers = Array.from({ length: 20 }, (_, at) => (at % 2 === 0 ? store : other));
      const taken = await Promise.all(
        takers.map(({ leases }, at) => leases.take('fill', `token-${at}`, 60_000)),
      );
      await other.close();
      expect(taken.filter(Boolean)).toHaveLength(1);
      const winner = `token-${taken.indexOf(true)}`;
      expect(await store.leases.take('fill', winner, 60_000)).toBe(true);
      await store.leases.release('fill', 'somebody else');
      expect(await store.leases.extend('fill', winner, 60_000)).toBe(true);
      await store.leases.release('fill', winner);
      expect(await store.leases.take('fill', 'next', 60_000)).toBe(true);
    });
  });
}
