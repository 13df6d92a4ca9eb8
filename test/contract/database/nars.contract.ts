import { describe, expect, it } from 'vitest';
import { MetadataError, type Verification } from '../../../src/database/metadata-store.ts';
import type { MetadataStoreSubject } from './metadata-store.contract.ts';
import { hashOf, HOUR, keyOf, narOf, NOW, pathOf, record, storedNar } from './records.ts';
import { freshStore } from './subject.ts';

export function testNars(subject: MetadataStoreSubject): void {
  describe('NARs by key', () => {
    it('gives null for an unknown key', async () => {
      const store = await freshStore(subject);
      expect(await store.getNar(keyOf(1))).toBeNull();
    });

    it('gives the NAR with the paths that claim it, in the order in which they were recorded', async () => {
      const store = await freshStore(subject);
      // The second is referred to before it is recorded, and all are recorded at one instant.
      const first = await store.recordPath(pathOf(5, [3]), narOf(1));
      const second = await store.recordPath(pathOf(4), narOf(1));
      const third = await store.recordPath(pathOf(3), narOf(1));
      await record(store, 2);
      expect(await store.getNar(keyOf(1))).toEqual({
        nar: first.nar,
        paths: [first.path, second.path, third.path],
      });
    });

    it('gives at most limit paths, 16 if not told', async () => {
      const store = await freshStore(subject);
      for (let number = 1; number <= 20; number++) await store.recordPath(pathOf(number), narOf(1));
      expect((await store.getNar(keyOf(1)))?.paths).toHaveLength(16);
      expect((await store.getNar(keyOf(1), 20))?.paths).toHaveLength(20);
      expect((await store.getNar(keyOf(1), 1))?.paths.map((path) => path.hash)).toEqual([hashOf(1)]);
      expect(await store.getNar(keyOf(1), 0)).toMatchObject({ nar: narOf(1), paths: [] });
    });
  });

  describe('marking a NAR present', () => {
    it('sets what was stored, the state and the next generation, and counts it', async () => {
      const store = await freshStore(subject);
      await store.recordPath(pathOf(1), narOf(1, { fileHash: null, fileSize: null }));
      const stored = storedNar(1, { fileSize: 2 ** 40 + 1, verification: 'nar' });
      expect(await store.markPresent(keyOf(1), stored)).toBe(1);
      expect((await store.getNar(keyOf(1)))?.nar).toMatchObject({
        fileHash: stored.fileHash,
        fileSize: stored.fileSize,
        verification: 'nar',
        state: 'present',
        generation: 1,
        lastAccess: NOW,
        compression: 'xz',
        source: narOf(1).source,
      });
      expect(await store.totals()).toEqual({ presentBytes: 2 ** 40 + 1, presentNars: 1 });
    });

    it('is null for an unknown key, and counts nothing', async () => {
      const store = await freshStore(subject);
      expect(await store.markPresent(keyOf(1), storedNar(1))).toBeNull();
      expect(await store.getNar(keyOf(1))).toBeNull();
      expect(await store.totals()).toEqual({ presentBytes: 0, presentNars: 0 });
    });

    it('counts a NAR once when marked again, with its last size', async () => {
      const store = await freshStore(subject);
      await record(store, 1);
      expect(await store.markPresent(keyOf(1), storedNar(1, { fileSize: 5_000_000_000 }))).toBe(1);
      expect(await store.markPresent(keyOf(1), storedNar(1, { fileSize: 5_000_000_000 }))).toBe(2);
      expect(await store.totals()).toEqual({ presentBytes: 5_000_000_000, presentNars: 1 });
      expect(await store.markPresent(keyOf(1), storedNar(1, { fileSize: 3 }))).toBe(3);
      expect(await store.totals()).toEqual({ presentBytes: 3, presentNars: 1 });
    });

    it('counts as an access, and never sets the last access back', async () => {
      const store = await freshStore(subject);
      await record(store, 1);
      await store.markPresent(keyOf(1), storedNar(1, { at: NOW }));
      await store.markPresent(keyOf(1), storedNar(1, { at: NOW + 1 }));
      expect((await store.getNar(keyOf(1)))?.nar.lastAccess).toBe(NOW + 1);
      await store.markPresent(keyOf(1), storedNar(1, { at: NOW - HOUR }));
      expect((await store.getNar(keyOf(1)))?.nar.lastAccess).toBe(NOW + 1);
    });

    it('never ends a quarantine', async () => {
      const store = await freshStore(subject);
      await record(store, 1);
      await store.markQuarantined(keyOf(1), 'NarHash differs');
      const before = await store.getNar(keyOf(1));
      expect(await store.markPresent(keyOf(1), storedNar(1))).toBeNull();
      expect(await store.getNar(keyOf(1))).toEqual(before);
      expect(await store.totals()).toEqual({ presentBytes: 0, presentNars: 0 });
    });

    it('refuses a size that cannot be counted, and changes nothing', async () => {
      const store = await freshStore(subject);
      await record(store, 1);
      const marked = store.markPresent(keyOf(1), storedNar(1, { fileSize: 2 ** 53 }));
      await expect(marked).rejects.toThrow(MetadataError);
      expect((await store.getNar(keyOf(1)))?.nar.state).toBe('known');
      expect(await store.totals()).toEqual({ presentBytes: 0, presentNars: 0 });
    });
  });

  describe('marking a NAR absent', () => {
    it('takes it out of the totals at the generation given, and keeps what was known of it', async () => {
      const store = await freshStore(subject);
      await record(store, 1);
      await record(store, 2);
      const generation = (await store.markPresent(keyOf(1), storedNar(1))) ?? -1;
      await store.markPresent(keyOf(2), storedNar(2));
      const present = (await store.getNar(keyOf(1)))?.nar;
      expect(await store.markAbsent(keyOf(1), generation)).toBe(true);
      expect((await store.getNar(keyOf(1)))?.nar).toEqual({ ...present, state: 'absent' });
      expect(await store.totals()).toEqual({ presentBytes: 502, presentNars: 1 });
    });

    it('does nothing at another generation', async () => {
      const store = await freshStore(subject);
      await record(store, 1);
      const old = (await store.markPresent(keyOf(1), storedNar(1))) ?? -1;
      await store.markPresent(keyOf(1), storedNar(1));
      expect(await store.markAbsent(keyOf(1), old)).toBe(false);
      expect((await store.getNar(keyOf(1)))?.nar.state).toBe('present');
      expect(await store.totals()).toEqual({ presentBytes: 501, presentNars: 1 });
    });

    it('does nothing to a NAR that is known, absent, quarantined or unknown', async () => {
      const store = await freshStore(subject);
      await record(store, 1);
      expect(await store.markAbsent(keyOf(1), 0)).toBe(false);
      expect(await store.markAbsent(keyOf(9), 0)).toBe(false);
      const generation = (await store.markPresent(keyOf(1), storedNar(1))) ?? -1;
      await store.markAbsent(keyOf(1), generation);
      expect(await store.markAbsent(keyOf(1), generation)).toBe(false);
      await store.markQuarantined(keyOf(1), 'wrong');
      const quarantined = (await store.getNar(keyOf(1)))?.nar;
      expect(await store.markAbsent(keyOf(1), quarantined?.generation ?? -1)).toBe(false);
      expect((await store.getNar(keyOf(1)))?.nar).toEqual(quarantined);
      expect(await store.totals()).toEqual({ presentBytes: 0, presentNars: 0 });
    });

    it('lets a new fill make it present again, in a later generation', async () => {
      const store = await freshStore(subject);
      await record(store, 1);
      const generation = (await store.markPresent(keyOf(1), storedNar(1))) ?? -1;
      await store.markAbsent(keyOf(1), generation);
      expect(await store.markPresent(keyOf(1), storedNar(1))).toBeGreaterThan(generation);
      expect(await store.totals()).toEqual({ presentBytes: 501, presentNars: 1 });
    });
  });

  describe('quarantine', () => {
    it('takes a present NAR out of the totals, in a later generation', async () => {
      const store = await freshStore(subject);
      await record(store, 1);
      await store.markPresent(keyOf(1), storedNar(1));
      await store.markQuarantined(keyOf(1), 'NarHash differs');
      expect((await store.getNar(keyOf(1)))?.nar).toMatchObject({ state: 'quarantined', generation: 2 });
      expect(await store.totals()).toEqual({ presentBytes: 0, presentNars: 0 });
    });

    it('shows in the answer for each path of the NAR', async () => {
      const store = await freshStore(subject);
      await store.recordPath(pathOf(1), narOf(1));
      await store.recordPath(pathOf(2), narOf(1));
      await store.markQuarantined(keyOf(1), 'wrong');
      for (const number of [1, 2]) {
        expect((await store.getPath(hashOf(number)))?.nar.state).toBe('quarantined');
      }
    });

    it('changes nothing the second time, nor for an unknown key', async () => {
      const store = await freshStore(subject);
      await record(store, 1);
      await store.markQuarantined(keyOf(1), 'NarHash differs');
      const before = await store.getNar(keyOf(1));
      await store.markQuarantined(keyOf(1), 'again');
      await store.markQuarantined(keyOf(2), 'unknown');
      expect(await store.getNar(keyOf(1))).toEqual(before);
      expect(await store.getNar(keyOf(2))).toBeNull();
      expect(await store.totals()).toEqual({ presentBytes: 0, presentNars: 0 });
    });
  });

  describe('verification', () => {
    it('is recorded at the generation given only', async () => {
      const store = await freshStore(subject);
      await record(store, 1);
      const old = (await store.markPresent(keyOf(1), storedNar(1))) ?? -1;
      const generation = (await store.markPresent(keyOf(1), storedNar(1))) ?? -1;
      expect(await store.markVerified(keyOf(1), old)).toBe(false);
      expect((await store.getNar(keyOf(1)))?.nar.verification).toBe('file');
      expect(await store.markVerified(keyOf(1), generation)).toBe(true);
      expect((await store.getNar(keyOf(1)))?.nar).toMatchObject({ verification: 'nar', generation });
      expect(await store.markVerified(keyOf(9), 0)).toBe(false);
    });

    it('is not recorded for a body that is gone', async () => {
      const store = await freshStore(subject);
      await record(store, 1);
      expect(await store.markVerified(keyOf(1), 0)).toBe(false);
      const generation = (await store.markPresent(keyOf(1), storedNar(1))) ?? -1;
      await store.markAbsent(keyOf(1), generation);
      expect(await store.markVerified(keyOf(1), generation)).toBe(false);
      expect((await store.getNar(keyOf(1)))?.nar.verification).toBe('file');
    });

    it('lists the NARs present whose NarHash was not checked, in pages by id', async () => {
      const store = await freshStore(subject);
      const verifications: readonly Verification[] = ['none', 'file', 'nar'];
      for (let number = 1; number <= 1101; number++) {
        await record(store, number);
        const verification = verifications[number % 3] ?? 'none';
        await store.markPresent(keyOf(number), storedNar(number, { verification }));
      }
      await record(store, 2000);
      await store.markQuarantined(keyOf(1), 'wrong');
      await store.markAbsent(keyOf(3), 1);
      await store.markVerified(keyOf(4), 1);
      const seen: string[] = [];
      let after = 0;
      for (;;) {
        const page = await store.listUnverified(after, 50);
        expect(page.length).toBeLessThanOrEqual(50);
        for (const nar of page) {
          expect(nar.id).toBeGreaterThan(after);
          after = nar.id;
          seen.push(nar.key);
        }
        if (page.length === 0) break;
      }
      const expected = Array.from({ length: 1101 }, (_, at) => at + 1)
        .filter((number) => number % 3 !== 2 && ![1, 3, 4].includes(number))
        .map(keyOf);
      expect(seen).toEqual(expected);
      expect(await store.listUnverified(0, 0)).toEqual([]);
      expect(await store.listUnverified(0, -1)).toEqual([]);
    });
  });

  describe('accesses', () => {
    it('are written only if the recorded one is more than an hour older', async () => {
      const store = await freshStore(subject);
      await record(store, 1);
      const lastAccess = async () => (await store.getNar(keyOf(1)))?.nar.lastAccess;
      await store.touch([{ key: keyOf(1), at: NOW }]);
      expect(await lastAccess()).toBe(NOW);
      await store.touch([{ key: keyOf(1), at: NOW + HOUR }]);
      expect(await lastAccess()).toBe(NOW);
      await store.touch([{ key: keyOf(1), at: NOW + HOUR + 1 }]);
      expect(await lastAccess()).toBe(NOW + HOUR + 1);
      await store.touch([{ key: keyOf(1), at: NOW }]);
      expect(await lastAccess()).toBe(NOW + HOUR + 1);
    });

    it('count by the latest of several to one NAR', async () => {
      const store = await freshStore(subject);
      await record(store, 1);
      await store.touch([NOW + 5, NOW + 9, NOW].map((at) => ({ key: keyOf(1), at })));
      expect((await store.getNar(keyOf(1)))?.nar.lastAccess).toBe(NOW + 9);
    });

    it('change nothing but the last access', async () => {
      const store = await freshStore(subject);
      await record(store, 1);
      await store.markPresent(keyOf(1), storedNar(1));
      const before = (await store.getNar(keyOf(1)))?.nar;
      await store.touch([{ key: keyOf(1), at: NOW + 2 * HOUR }]);
      expect((await store.getNar(keyOf(1)))?.nar).toEqual({ ...before, lastAccess: NOW + 2 * HOUR });
    });

    it('pass over unknown keys, and are recorded in any number', async () => {
      const store = await freshStore(subject);
      for (const number of [1, 4999, 9999]) await record(store, number);
      const accesses = Array.from({ length: 10_000 }, (_, at) => ({ key: keyOf(at), at: NOW + at }));
      await store.touch(accesses);
      await store.touch([]);
      for (const number of [1, 4999, 9999]) {
        expect((await store.getNar(keyOf(number)))?.nar.lastAccess).toBe(NOW + number);
      }
      expect(await store.getNar(keyOf(2))).toBeNull();
    });
  });

  describe('the totals', () => {
    it('are zero for an empty index', async () => {
      const store = await freshStore(subject);
      expect(await store.totals()).toEqual({ presentBytes: 0, presentNars: 0 });
    });

    it('are exact beyond 2^40 bytes over many NARs', async () => {
      const store = await freshStore(subject);
      let sum = 0;
      for (let number = 1; number <= 100; number++) {
        await record(store, number);
        await store.markPresent(keyOf(number), storedNar(number, { fileSize: 2 ** 42 + number }));
        sum += 2 ** 42 + number;
      }
      expect(await store.totals()).toEqual({ presentBytes: sum, presentNars: 100 });
    });
  });
}
