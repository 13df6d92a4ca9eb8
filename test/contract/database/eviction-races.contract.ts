import { describe, expect, it } from 'vitest';
import type { IndexStore } from '../../../src/database/index-store.ts';
import type { MetadataStoreSubject } from './metadata-store.contract.ts';
import { hashOf, keyOf, narOf, NOW, pathOf, storedNar } from './records.ts';
import { seen, stateOf, store } from './stored-nars.ts';
import { freshPlace } from './subject.ts';

/** Lets some round trips pass, so that the two meet each other at every step. */
export async function wait(index: IndexStore, trips: number): Promise<void> {
  for (let trip = 0; trip < trips; trip++) await index.ping();
}

/** Marks first and looks afterwards. @returns whether the body of this number is gone */
export async function evictOne(index: IndexStore, number: number): Promise<boolean> {
  const evicting = await index.upkeep.markEvicting(await seen(index, number), NOW);
  const spared = new Set(await index.upkeep.spareEvicting(evicting, NOW));
  const finished = await index.upkeep.finishEvicting(evicting.filter(({ key }) => !spared.has(key)));
  return finished.length > 0;
}

/** Pins first and looks afterwards. @returns whether the body is kept for it */
export async function pinOne(index: IndexStore, number: number): Promise<boolean> {
  const { hash, storePath } = pathOf(number);
  await index.upkeep.putPin({ name: `pin-${number}`, hash, storePath, createdAt: NOW, expiresAt: null });
  return (await stateOf(index, number)) === 'present';
}

/** Stores a pushed path that refers to the one of this number, and looks afterwards. @returns whether that is kept for it */
export async function referTo(index: IndexStore, number: number): Promise<boolean> {
  const referrer = number + 10_000;
  await index.recordPath(pathOf(referrer, [number]), narOf(referrer, { source: null }));
  await index.markPresent(keyOf(referrer), storedNar(referrer));
  return (await stateOf(index, number)) === 'present';
}

/** The protocol of `spareEvicting`, over two handles. */
export function testEvictionRaces(subject: MetadataStoreSubject): void {
  const rounds = subject.isSlow === true ? 6 : 24;

  describe('an eviction and', () => {
    it.each([
      ['a pin', pinOne],
      ['a push of what refers to its NAR', referTo],
    ])('%s at the same time never both succeed', async (_, keep) => {
      const place = await freshPlace(subject);
      const one = await place.open();
      const other = subject.notShared === undefined ? await place.open() : one;
      let present = 0;
      for (let number = 1; number <= rounds; number++) {
        await store(one, number, { pushed: true });
        const [isGone, isKept] = await Promise.all([
          wait(one, number % 3).then(() => evictOne(one, number)),
          wait(other, number % 4).then(() => keep(other, number)),
        ]);
        expect(isGone && isKept).toBe(false);
        const state = await stateOf(one, number);
        expect(state).toBe(isGone ? 'absent' : 'present');
        if (!isGone) present += 1;
      }
      const referrers = keep === referTo ? rounds : 0;
      expect((await one.totals()).presentNars).toBe(present + referrers);
    });

    it('another one, of the same and of overlapping NARs, count each once and come to an end', async () => {
      const place = await freshPlace(subject);
      const one = await place.open();
      const other = subject.notShared === undefined ? await place.open() : one;
      const numbers = Array.from({ length: 40 }, (_, at) => at + 1);
      for (const number of numbers) await store(one, number);
      const all = await seen(one, ...numbers);
      const backwards = all.toReversed().slice(0, 30);
      const finished = await Promise.all(
        [all, backwards].map(async (nars, at) => {
          const index = at === 0 ? one : other;
          const evicting = await index.upkeep.markEvicting(nars, NOW);
          return await index.upkeep.finishEvicting(evicting);
        }),
      );
      expect(new Set(finished.flat())).toEqual(new Set(numbers.map(keyOf)));
      expect(await one.totals()).toEqual({ presentBytes: 0, presentNars: 0 });
    });

    it('a ban at the same time takes a NAR out of the counters once', async () => {
      const place = await freshPlace(subject);
      const one = await place.open();
      const other = subject.notShared === undefined ? await place.open() : one;
      for (let number = 1; number <= rounds / 2; number++) {
        await store(one, number);
        const ban = { hash: hashOf(number), storePath: pathOf(number).storePath, reason: 'bad', at: NOW };
        await Promise.all([
          wait(one, number % 3).then(() => evictOne(one, number)),
          wait(other, number % 4).then(() => other.upkeep.banPath(ban)),
        ]);
        expect(await stateOf(one, number)).toBe('quarantined');
        expect(await one.totals()).toEqual({ presentBytes: 0, presentNars: 0 });
      }
    });
  });
}
