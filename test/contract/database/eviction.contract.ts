import { describe, expect, it } from 'vitest';
import { evictionRank } from '../../../src/database/eviction-order.ts';
import type { IndexStore } from '../../../src/database/index-store.ts';
import type { Evictable, EvictablePage } from '../../../src/database/upkeep-store.ts';
import type { MetadataStoreSubject } from './metadata-store.contract.ts';
import { hashOf, HOUR, keyOf, narOf, NOW, pathOf, record, sorted, storedNar } from './records.ts';
import { withoutId } from './model.ts';
import { evict, seen, stateOf, store } from './stored-nars.ts';
import { freshPlace, freshStore } from './subject.ts';

const LATER = NOW + 1000 * HOUR;
const MIB = 2 ** 20;

function page(change: Partial<EvictablePage> = {}): EvictablePage {
  return { pushed: false, after: null, accessedBefore: LATER, now: NOW, limit: 100, ...change };
}

async function keysOf(index: IndexStore, change: Partial<EvictablePage> = {}): Promise<readonly string[]> {
  return (await index.upkeep.listEvictable(page(change))).map(({ nar }) => nar.key);
}

/** Why each of those listed is kept, by the number of its NAR. */
function keptBy(listed: readonly Evictable[]): Readonly<Record<string, string | null>> {
  return Object.fromEntries(listed.map(({ nar, keptBy }) => [nar.key, keptBy]));
}

export function testEviction(subject: MetadataStoreSubject): void {
  describe('the order of eviction', () => {
    it('is that of the rank, which follows size, accesses and the last of them', async () => {
      const index = await freshStore(subject);
      const sizes = [0, 1, 100_000, 170_000, 400_000, 3 * MIB, 9 * MIB, 25 * MIB, 2 ** 40];
      const ranks = new Map<string, number>();
      for (const [at, fileSize] of sizes.entries()) {
        const number = at + 1;
        await store(index, number, { size: fileSize, at: NOW + at });
        let lastAccess = NOW + at;
        let accesses = 1;
        for (let access = 0; access < at * 3; access++) {
          lastAccess += HOUR + 1;
          accesses += 1;
          await index.touch([{ key: keyOf(number), at: lastAccess }]);
          // Within the hour: not recorded.
          await index.touch([{ key: keyOf(number), at: lastAccess + HOUR }]);
        }
        ranks.set(keyOf(number), evictionRank({ lastAccess, accesses, fileSize }));
      }
      const listed = await index.upkeep.listEvictable(page());
      expect(new Map(listed.map(({ nar, rank }) => [nar.key, rank]))).toEqual(ranks);
      expect(listed.map(({ rank }) => rank)).toEqual([...ranks.values()].sort((left, right) => left - right));
    });

    it('counts a body that is stored again as used once more, but not within the hour', async () => {
      const index = await freshStore(subject);
      await store(index, 1, { size: 1000 });
      await evict(index, 1);
      for (const [at, accesses] of [
        [NOW + HOUR, 1],
        [NOW + 2 * HOUR + 1, 2],
      ] as const) {
        await index.markPresent(keyOf(1), storedNar(1, { at, fileSize: 1000 }));
        const [listed] = await index.upkeep.listEvictable(page());
        expect(listed?.accesses).toBe(accesses);
        expect(listed?.rank).toBe(evictionRank({ lastAccess: at, accesses, fileSize: 1000 }));
      }
    });

    it('is paged by rank and id, also among equals', async () => {
      const index = await freshStore(subject);
      for (let number = 1; number <= 7; number++) {
        await store(index, number, { size: 1000, at: NOW + Math.floor(number / 4) });
      }
      const found: string[] = [];
      let after: EvictablePage['after'] = null;
      for (;;) {
        const listed: readonly Evictable[] = await index.upkeep.listEvictable(page({ after, limit: 2 }));
        const last = listed.at(-1);
        if (last === undefined) break;
        found.push(...listed.map(({ nar }) => nar.key));
        after = { rank: last.rank, id: last.nar.id };
      }
      expect(found).toEqual([1, 2, 3, 4, 5, 6, 7].map(keyOf));
    });

    it('has only what is present, old enough, and of the kind that is asked for', async () => {
      const index = await freshStore(subject);
      await record(index, 1);
      await store(index, 2);
      await store(index, 3, { pushed: true });
      await store(index, 4, { at: NOW + 5 });
      await store(index, 5);
      await index.markQuarantined(keyOf(5), 'wrong');
      await store(index, 6);
      await evict(index, 6);
      expect(await keysOf(index, { accessedBefore: NOW + 5 })).toEqual([keyOf(2)]);
      expect(await keysOf(index, { pushed: true })).toEqual([keyOf(3)]);
      expect(sorted(await keysOf(index))).toEqual(sorted([2, 4].map(keyOf)));
    });

    it('says what keeps each: a pin that has not expired, or a retained pushed path that refers to it', async () => {
      const index = await freshStore(subject);
      await store(index, 1, { references: [2, 3], pushed: true });
      await store(index, 2, { pushed: true });
      await store(index, 3);
      await store(index, 4, { references: [5] });
      await store(index, 5);
      const pin = { storePath: pathOf(4).storePath, hash: hashOf(4), createdAt: NOW, expiresAt: NOW + 1 };
      await index.upkeep.putPin({ ...pin, name: 'four' });
      expect(keptBy(await index.upkeep.listEvictable(page({ pushed: true })))).toEqual({
        [keyOf(1)]: null,
        [keyOf(2)]: 'referrer',
      });
      const kept = { [keyOf(3)]: null, [keyOf(4)]: 'pin', [keyOf(5)]: 'pin' };
      expect(keptBy(await index.upkeep.listEvictable(page()))).toEqual(kept);
      expect(Object.values(keptBy(await index.upkeep.listEvictable(page({ now: NOW + 1 }))))).toEqual([
        null,
        null,
        null,
      ]);
    });

    it('forgets that a path was pushed once an upstream has it', async () => {
      const index = await freshStore(subject);
      await store(index, 1, { pushed: true });
      await store(index, 2, { pushed: true });
      const source = { upstream: 'https://cache.example.org', url: 'nar/1' };
      await index.upkeep.markObtainable(keyOf(1), source);
      await index.upkeep.markObtainable(keyOf(2), null);
      await index.upkeep.markObtainable(keyOf(1), { upstream: 'https://other.example.org', url: 'nar/2' });
      expect(await keysOf(index, { pushed: true })).toEqual([]);
      expect((await index.getNar(keyOf(1)))?.nar.source).toEqual(source);
      expect((await index.getNar(keyOf(2)))?.nar.source).toBeNull();
    });
  });

  describe('an eviction', () => {
    it('goes from present over evicting to absent, with the counters at the end', async () => {
      const index = await freshStore(subject);
      await store(index, 1, { size: 100 });
      await index.recordPath(pathOf(2), narOf(1));
      await store(index, 3, { size: 30 });
      const evicting = await index.upkeep.markEvicting(await seen(index, 1), NOW);
      expect(evicting.map(({ hashes, ...nar }) => ({ ...withoutId(nar), hashes: sorted(hashes) }))).toEqual([
        { key: keyOf(1), generation: 1, fileSize: 100, hashes: [1, 2].map(hashOf) },
      ]);
      expect(await stateOf(index, 1)).toBe('evicting');
      expect(await index.totals()).toEqual({ presentBytes: 130, presentNars: 2 });
      expect(await index.upkeep.finishEvicting(evicting)).toEqual([keyOf(1)]);
      expect(await stateOf(index, 1)).toBe('absent');
      expect(await index.totals()).toEqual({ presentBytes: 30, presentNars: 1 });
      const nar = (await index.getNar(keyOf(1)))?.nar;
      expect([nar?.generation, nar?.fileSize, nar?.verification]).toEqual([1, 100, 'file']);
    });

    it('loses to another generation, to an access that was recorded, and to a quarantine', async () => {
      const index = await freshStore(subject);
      for (const number of [1, 2, 3, 4]) await store(index, number);
      const before = await seen(index, 1, 2, 3, 4);
      await index.markPresent(keyOf(1), storedNar(1));
      await index.touch([{ key: keyOf(2), at: NOW + 2 * HOUR }]);
      await index.markQuarantined(keyOf(3), 'wrong');
      const evicting = await index.upkeep.markEvicting(before, NOW);
      expect(evicting.map(({ key }) => key)).toEqual([keyOf(4)]);
      expect([await stateOf(index, 1), await stateOf(index, 2), await stateOf(index, 3)]).toEqual([
        'present',
        'present',
        'quarantined',
      ]);
    });

    it('loses to a pin, and to a retained pushed path that refers to it, unless it goes regardless', async () => {
      const index = await freshStore(subject);
      await store(index, 1);
      await store(index, 2, { references: [3], pushed: true });
      await store(index, 3, { pushed: true });
      const pin = { name: 'one', storePath: pathOf(1).storePath, hash: hashOf(1), createdAt: NOW };
      await index.upkeep.putPin({ ...pin, expiresAt: NOW + 10 });
      // The referrer in the same batch is still there when the reference is looked at.
      expect(await index.upkeep.markEvicting(await seen(index, 1, 3), NOW)).toEqual([]);
      const referrer = await index.upkeep.markEvicting(await seen(index, 2), NOW);
      expect(await index.upkeep.markEvicting(await seen(index, 3), NOW)).toEqual([]);
      await index.upkeep.finishEvicting(referrer);
      const free = await index.upkeep.markEvicting(await seen(index, 1, 3), NOW + 10);
      expect(sorted(free.map(({ key }) => key))).toEqual([1, 3].map(keyOf));

      await store(index, 4);
      await index.upkeep.putPin({
        ...pin,
        name: 'four',
        hash: hashOf(4),
        storePath: pathOf(4).storePath,
        expiresAt: null,
      });
      const forced = await index.upkeep.markEvicting(await seen(index, 4), NOW, { regardless: true });
      expect(forced.map(({ key }) => key)).toEqual([keyOf(4)]);
    });

    it('may be asked for again, and finishes at its generation only', async () => {
      const index = await freshStore(subject);
      await store(index, 1);
      const before = await seen(index, 1);
      const first = await index.upkeep.markEvicting(before, NOW);
      expect(await index.upkeep.markEvicting(before, NOW)).toEqual(first);
      expect(await index.upkeep.finishEvicting([{ key: keyOf(1), generation: 2 }])).toEqual([]);
      expect(await index.upkeep.finishEvicting(first)).toEqual([keyOf(1)]);
      expect(await index.upkeep.finishEvicting(first)).toEqual([keyOf(1)]);
      expect(await index.totals()).toEqual({ presentBytes: 0, presentNars: 0 });
      await index.markPresent(keyOf(1), storedNar(1));
      expect(await index.upkeep.finishEvicting(first)).toEqual([]);
      expect(await stateOf(index, 1)).toBe('present');
    });

    it('is undone by a body that was stored meanwhile', async () => {
      const index = await freshStore(subject);
      await store(index, 1, { size: 10 });
      const evicting = await index.upkeep.markEvicting(await seen(index, 1), NOW);
      await index.markPresent(keyOf(1), storedNar(1, { fileSize: 20 }));
      expect(await index.upkeep.finishEvicting(evicting)).toEqual([]);
      expect(await index.totals()).toEqual({ presentBytes: 20, presentNars: 1 });
    });

    it('spares what a pin or a pushed path keeps by then, and nothing else', async () => {
      const index = await freshStore(subject);
      for (const number of [1, 2, 3]) await store(index, number, { pushed: number === 2 });
      const evicting = await index.upkeep.markEvicting(await seen(index, 1, 2, 3), NOW);
      const pin = { name: 'one', storePath: pathOf(1).storePath, hash: hashOf(1) };
      await index.upkeep.putPin({ ...pin, createdAt: NOW, expiresAt: null });
      await store(index, 4, { references: [2], pushed: true });
      const spared = await index.upkeep.spareEvicting(evicting, NOW);
      expect(sorted(spared)).toEqual([1, 2].map(keyOf));
      expect(sorted(await index.upkeep.spareEvicting(evicting, NOW))).toEqual([1, 2].map(keyOf));
      expect([await stateOf(index, 1), await stateOf(index, 2), await stateOf(index, 3)]).toEqual([
        'present',
        'present',
        'evicting',
      ]);
      expect((await index.totals()).presentNars).toBe(4);
    });

    it('takes many at once, over all counters', async () => {
      const index = await freshStore(subject);
      const numbers = Array.from({ length: 1200 }, (_, at) => at + 1);
      for (const number of numbers) await store(index, number, { size: number });
      const evicting = await index.upkeep.markEvicting(await seen(index, ...numbers), NOW);
      expect(evicting).toHaveLength(1200);
      expect(await index.upkeep.spareEvicting(evicting, NOW)).toEqual([]);
      expect(await index.upkeep.finishEvicting(evicting.slice(0, 1190))).toHaveLength(1190);
      const rest = 10 * 1195.5;
      expect(await index.totals()).toEqual({ presentBytes: rest, presentNars: 10 });
    });

    it('that died is listed by id, with all narinfos of its NARs', async () => {
      const place = await freshPlace(subject);
      const index = await place.open();
      for (const number of [1, 2, 3]) await store(index, number);
      await index.recordPath(pathOf(9), narOf(2));
      await index.upkeep.markEvicting(await seen(index, 1, 2, 3), NOW);
      const [first] = await index.upkeep.listEvicting(0, 1);
      expect(first?.key).toBe(keyOf(1));
      const rest = await index.upkeep.listEvicting(first?.id ?? 0, 10);
      expect(rest.map(({ key, hashes }) => [key, sorted(hashes)])).toEqual([
        [keyOf(2), [2, 9].map(hashOf)],
        [keyOf(3), [hashOf(3)]],
      ]);
    });

    it('of nothing changes nothing', async () => {
      const index = await freshStore(subject);
      expect(await index.upkeep.markEvicting([], NOW)).toEqual([]);
      expect(await index.upkeep.spareEvicting([], NOW)).toEqual([]);
      expect(await index.upkeep.finishEvicting([])).toEqual([]);
      const unknown = { key: keyOf(1), generation: 0, lastAccess: 0 };
      expect(await index.upkeep.markEvicting([unknown], NOW)).toEqual([]);
    });
  });
}
