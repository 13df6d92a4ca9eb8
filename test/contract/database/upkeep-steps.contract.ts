import fc from 'fast-check';
import { expect } from 'vitest';
import type { IndexStore } from '../../../src/database/index-store.ts';
import type { NarAtGeneration, SeenNar } from '../../../src/database/upkeep-store.ts';
import { withoutId } from './model.ts';
import { hashOf, HOUR, keyOf, NOW, pathOf, sorted } from './records.ts';
import { pruneAll } from './stored-nars.ts';
import type { UpkeepModel } from './upkeep-model.ts';

export type Step = fc.AsyncCommand<UpkeepModel, IndexStore>;

/** A step: what both do, and that both answer the same. */
export function step(name: string, act: (model: UpkeepModel, store: IndexStore) => Promise<void>): Step {
  return { check: () => true, run: act, toString: () => name };
}

export function show(name: string, values: unknown): string {
  return `${name} ${JSON.stringify(values)}`;
}

/** Few paths and NARs, so that the steps meet each other. */
export const small: fc.Arbitrary<number> = fc.integer({ min: 1, max: 5 });
export const time: fc.Arbitrary<number> = fc
  .integer({ min: 0, max: 5 })
  .map((hours) => NOW + hours * (HOUR / 2 + 1));
/** Added to the revision or generation that is right. */
export const offset: fc.Arbitrary<number> = fc.constantFrom(0, 0, 0, 1, -1);

const numbers = fc.uniqueArray(small, { minLength: 1 });
const pinName = fc.constantFrom('a', 'b', 'C');
const NARS = [1, 2, 3, 4, 5];

/** Of these NARs those that are known. */
function seenIn(model: UpkeepModel, numbers: readonly number[], offset: number, late: number): SeenNar[] {
  return numbers.flatMap((number) => {
    const nar = model.nars.get(keyOf(number));
    if (nar === undefined) return [];
    return [{ key: nar.key, generation: nar.generation + offset, lastAccess: nar.lastAccess + late }];
  });
}

function atGenerations(model: UpkeepModel, numbers: readonly number[], offset: number): NarAtGeneration[] {
  return seenIn(model, numbers, offset, 0).map(({ key, generation }) => ({ key, generation }));
}

async function expectEvicting(model: UpkeepModel, store: IndexStore): Promise<void> {
  const listed = await store.upkeep.listEvicting(0, 100);
  expect(listed.map((nar) => ({ ...withoutId(nar), hashes: sorted(nar.hashes) }))).toEqual(model.evicting());
}

/** Those of `upkeep-store.ts`. */
export const upkeepSteps: readonly fc.Arbitrary<Step>[] = [
  fc
    .tuple(numbers, offset, fc.constantFrom(0, 0, 0, 1), time, fc.constantFrom(false, false, true))
    .map(([numbers, offset, late, now, regardless]) =>
      step(show('markEvicting', [numbers, offset, late, now, regardless]), async (model, store) => {
        const seen = seenIn(model, numbers, offset, late);
        const expected = model.markEvicting(seen, now, regardless);
        const marked = await store.upkeep.markEvicting(seen, now, { regardless });
        expect(sorted(marked.map(({ key }) => key))).toEqual(sorted(expected));
        await expectEvicting(model, store);
      }),
    ),
  fc.tuple(offset, time).map(([offset, now]) =>
    step(show('spareEvicting', [offset, now]), async (model, store) => {
      const nars = atGenerations(model, NARS, offset);
      const expected = model.spareEvicting(nars, now);
      expect(sorted(await store.upkeep.spareEvicting(nars, now))).toEqual(sorted(expected));
    }),
  ),
  fc.tuple(numbers, offset).map(([numbers, offset]) =>
    step(show('finishEvicting', [numbers, offset]), async (model, store) => {
      const nars = atGenerations(model, numbers, offset);
      const expected = model.finishEvicting(nars);
      expect(sorted(await store.upkeep.finishEvicting(nars))).toEqual(sorted(expected));
      expect(await store.totals()).toEqual(model.totals());
    }),
  ),
  fc.tuple(small, fc.boolean()).map(([number, sourced]) =>
    step(show('markObtainable', [number, sourced]), async (model, store) => {
      const source = sourced ? { upstream: 'https://other.example.org', url: 'nar/x' } : null;
      model.markObtainable(keyOf(number), source);
      await store.upkeep.markObtainable(keyOf(number), source);
    }),
  ),
  fc.tuple(pinName, fc.integer({ min: 1, max: 8 }), fc.option(time)).map(([name, number, expiresAt]) =>
    step(show('putPin', [name, number, expiresAt]), async (model, store) => {
      const pin = { name, ...rootOf(number), createdAt: NOW, expiresAt };
      model.putPin(pin);
      await store.upkeep.putPin(pin);
    }),
  ),
  pinName.map((name) =>
    step(show('deletePin', name), async (model, store) => {
      expect(await store.upkeep.deletePin(name)).toBe(model.pins.delete(name));
    }),
  ),
  time.map((now) =>
    step(show('refreshPins', now), async (model, store) => {
      expect(sorted(await store.upkeep.refreshPins(now))).toEqual(model.refreshPins(now));
    }),
  ),
  fc.tuple(small, time).map(([number, at]) =>
    step(show('banPath', [number, at]), async (model, store) => {
      const ban = { ...rootOf(number), reason: `at ${at}`, at };
      model.banPath(ban);
      await store.upkeep.banPath(ban);
    }),
  ),
  small.map((number) =>
    step(show('unbanPath', number), async (model, store) => {
      expect(await store.upkeep.unbanPath(hashOf(number))).toBe(model.unbanPath(hashOf(number)));
    }),
  ),
  small.map((number) =>
    step(show('removePath', number), async (model, store) => {
      expect(await store.upkeep.removePath(hashOf(number))).toBe(model.paths.delete(hashOf(number)));
    }),
  ),
  fc.tuple(time, fc.integer({ min: 1, max: 3 })).map(([unusedSince, limit]) =>
    step(show('prunePaths', [unusedSince, limit]), async (model, store) => {
      expect(await pruneAll(store, unusedSince, limit)).toBe(model.prune(unusedSince));
    }),
  ),
  fc.boolean().map((repair) =>
    step(show('recountTotals', repair), async (model, store) => {
      const totals = model.totals();
      expect(await store.upkeep.recountTotals({ repair })).toEqual({ counted: totals, actual: totals });
    }),
  ),
];

/** Everything that upkeep can be asked, against the model. */
export async function expectUpkeepEqual(model: UpkeepModel, store: IndexStore): Promise<void> {
  const { upkeep } = store;
  await expectEvicting(model, store);
  for (const pushed of [false, true]) {
    for (const [accessedBefore, now] of [
      [NOW + 100 * HOUR, NOW],
      [NOW + HOUR, NOW + HOUR],
    ] as const) {
      const page = { pushed, after: null, accessedBefore, now, limit: 100 };
      const listed = await upkeep.listEvictable(page);
      expect(listed.map((evictable) => ({ ...evictable, nar: withoutId(evictable.nar) }))).toEqual(
        model.evictable(pushed, accessedBefore, now),
      );
    }
  }
  expect(await upkeep.listPins()).toEqual(model.listPins());
  for (const now of [NOW, NOW + HOUR]) {
    expect(await upkeep.pinnedTotals(now)).toEqual(model.pinnedTotals(now));
    for (let number = 1; number <= 8; number++) {
      expect(await upkeep.keeperOf(hashOf(number), now)).toBe(model.keeperOf(hashOf(number), now));
    }
  }
  const bans = [...model.bans.values()].sort((left, right) => (left.hash < right.hash ? -1 : 1));
  expect(await upkeep.listBans()).toEqual(bans);
  expect((await upkeep.listDangling(0, 100)).map(withoutId)).toEqual(model.dangling());
  expect((await upkeep.listNars(0, 100)).map(withoutId)).toEqual([...model.nars.values()]);
  expect(await upkeep.countPaths()).toBe(model.paths.size);
}

function rootOf(number: number): { readonly hash: string; readonly storePath: string } {
  const { hash, storePath } = pathOf(number);
  return { hash, storePath };
}
