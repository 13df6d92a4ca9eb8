import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { NewPin } from '../../../src/database/upkeep-store.ts';
import { notedIndex } from './noted-index.ts';
import { hashOf, keyOf, NOW, pathOf } from './records.ts';
import { seen, store } from './stored-nars.ts';

/** D1's limit: https://developers.cloudflare.com/d1/platform/limits/ */
const MOST_PARAMETERS = 100;

const { database, store: index, trips, tripsOf, planOf } = notedIndex();
const { upkeep } = index;

beforeAll(async () => {
  for (let number = 1; number <= 300; number++) {
    await store(index, number, { references: [number + 1, number + 2], pushed: number % 2 === 0 });
  }
  for (const number of [7, 20]) await upkeep.putPin(pinOf(number));
});
afterAll(() => index.close());

function pinOf(number: number): NewPin {
  const { hash, storePath } = pathOf(number);
  return { name: `pin-${number}`, hash, storePath, createdAt: NOW, expiresAt: null };
}

const page = { after: { rank: 1, id: 1 }, accessedBefore: 2 * NOW, now: NOW, limit: 10 };
const given = [{ key: keyOf(30), generation: 1 }];
const ban = { hash: hashOf(40), storePath: pathOf(40).storePath, reason: 'bad', at: NOW };
type Operation = readonly [name: string, operation: () => Promise<unknown>];

const single: readonly Operation[] = [
  ['listEvictable', () => upkeep.listEvictable({ ...page, pushed: false })],
  ['listEvictable of pushed ones', () => upkeep.listEvictable({ ...page, pushed: true })],
  ['listEvicting', () => upkeep.listEvicting(10, 5)],
  ['markObtainable', () => upkeep.markObtainable(keyOf(50), null)],
  ['listPins', () => upkeep.listPins()],
  ['listBans', () => upkeep.listBans()],
  ['setMark', () => upkeep.setMark('verify', '9')],
  ['getMark', () => upkeep.getMark('verify')],
  ['setMark to null', () => upkeep.setMark('verify', null)],
  ['listNars', () => upkeep.listNars(10, 5)],
  ['findNars', () => upkeep.findNars([1, 2].map(keyOf))],
  ['findPaths', () => upkeep.findPaths([1, 2].map(hashOf))],
  ['listDangling', () => upkeep.listDangling(10, 5)],
];
/** Sums over everything: all that is pinned, all that is stored, all paths. */
const sums: readonly Operation[] = [
  ['pinnedTotals', () => upkeep.pinnedTotals(NOW)],
  ['countPaths', () => upkeep.countPaths()],
];
const batches: readonly Operation[] = [
  ['markEvicting', () => upkeep.markEvicting([{ key: keyOf(30), generation: 1, lastAccess: NOW }], NOW)],
  ['spareEvicting', () => upkeep.spareEvicting(given, NOW)],
  ['finishEvicting', () => upkeep.finishEvicting(given)],
  ['putPin', () => upkeep.putPin(pinOf(60))],
  ['deletePin', () => upkeep.deletePin('pin-60')],
  ['removePath', () => upkeep.removePath(hashOf(70))],
  ['banPath', () => upkeep.banPath(ban)],
  ['unbanPath', () => upkeep.unbanPath(ban.hash)],
];
/** Several trips: one for each pin; a page, and what of it may go. */
const several: readonly Operation[] = [
  ['refreshPins', () => upkeep.refreshPins(NOW)],
  ['prunePaths', () => upkeep.prunePaths({ unusedSince: 2 * NOW, afterId: 25, limit: 20 })],
  ['pruneOrphans of NARs', () => upkeep.pruneOrphans('nars', { afterId: 25, limit: 20 })],
  ['pruneOrphans of nodes', () => upkeep.pruneOrphans('nodes', { afterId: 25, limit: 20 })],
];

const GROWING =
  /^SCAN (nars|paths|store_hashes|reference_edges|pinned_paths|claiming|edge|referring|retained|kept|body|own|referred|target|stored)\b/;

describe('The statements of upkeep', () => {
  it.each([...single, ...sums])('%s is exactly one statement', async (_, operation) => {
    expect(await tripsOf(operation)).toMatchObject([{ kind: 'statement', statements: [{}] }]);
  });

  it.each(batches)('%s is exactly one batch', async (_, operation) => {
    expect(await tripsOf(operation)).toMatchObject([{ kind: 'batch' }]);
  });

  it('refreshing pins is a list and one statement for each', async () => {
    const pins = (await upkeep.listPins()).length;
    expect(await tripsOf(() => upkeep.refreshPins(NOW))).toHaveLength(1 + pins);
  });

  it('sums read no row of a table where an index will do', async () => {
    for (const [, operation] of sums) {
      for (const statement of (await tripsOf(operation)).flatMap(({ statements }) => statements)) {
        expect(planOf(statement).filter((step) => /^SCAN(?!.*COVERING INDEX)/.test(step))).toEqual([]);
      }
    }
  });

  it.each([...single, ...batches, ...several])('%s scans no table that grows', async (_, operation) => {
    for (const { statements } of await tripsOf(operation)) {
      for (const statement of statements) {
        const steps = planOf(statement);
        expect(steps.filter((step) => GROWING.test(step) && !step.includes('VIRTUAL TABLE'))).toEqual([]);
        expect(steps.filter((step) => step.includes('AUTOMATIC'))).toEqual([]);
      }
    }
  });

  it.each(['markEvicting', 'spareEvicting', 'finishEvicting'])(
    '%s looks each NAR up by its key',
    async (name) => {
      const operation = batches.find(([one]) => one === name)?.[1];
      const statements =
        operation === undefined ? [] : (await tripsOf(operation)).flatMap((trip) => trip.statements);
      expect(statements.length).toBeGreaterThan(0);
      for (const statement of statements) {
        const steps = planOf(statement).filter((step) => /^SEARCH nars\b/.test(step));
        expect(steps.filter((step) => !step.includes('(key=?)'))).toEqual([]);
      }
    },
  );

  it('pages come in order from an index, without being sorted', async () => {
    for (const operation of [
      () => upkeep.listEvictable({ ...page, pushed: true }),
      () => upkeep.listNars(10, 5),
      () => upkeep.listDangling(10, 5),
      () => upkeep.prunePaths({ unusedSince: 0, afterId: 0, limit: 5 }),
      () => upkeep.pruneOrphans('nars', { afterId: 0, limit: 5 }),
      () => upkeep.pruneOrphans('nodes', { afterId: 0, limit: 5 }),
    ]) {
      const [first] = (await tripsOf(operation)).flatMap(({ statements }) => statements);
      if (first === undefined) throw new Error('no statement');
      expect(planOf(first).filter((step) => step.includes('TEMP B-TREE FOR ORDER BY'))).toEqual([]);
    }
  });

  it('counters are counted anew without a row in memory for each NAR', async () => {
    const statements = (await tripsOf(() => upkeep.recountTotals({ repair: true }))).flatMap(
      (trip) => trip.statements,
    );
    expect(statements.flatMap(planOf).filter((step) => step.includes('TEMP B-TREE'))).toEqual([]);
  });

  it('take no more parameters than D1 allows, and are a fixed set of texts', async () => {
    const texts = () => new Set(trips.flatMap(({ statements }) => statements.map(({ sql }) => sql))).size;
    const run = async (count: number) => {
      const numbers = Array.from({ length: count }, (_, at) => at + 100);
      const evicting = await upkeep.markEvicting(await seen(index, ...numbers), NOW, { regardless: true });
      await upkeep.spareEvicting(evicting, NOW);
      await upkeep.finishEvicting(evicting);
      await upkeep.findPaths(numbers.map(hashOf));
    };
    await run(1);
    const before = texts();
    await run(150);
    expect(texts()).toBe(before);
    const counts = trips.flatMap(({ statements }) => statements.map(({ params }) => params.length));
    expect(Math.max(...counts)).toBeLessThanOrEqual(MOST_PARAMETERS);
  });

  it('give no two columns of one name, which D1 would lose', () => {
    for (const { sql } of trips.flatMap(({ statements }) => statements)) {
      const names = database
        .prepare(sql)
        .columns()
        .map((column) => column.name);
      expect(new Set(names).size).toBe(names.length);
    }
  });
});
