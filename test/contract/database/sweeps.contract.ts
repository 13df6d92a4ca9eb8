import { describe, expect, it } from 'vitest';
import type { MetadataStoreSubject } from './metadata-store.contract.ts';
import { hashOf, keyOf, narOf, NOW, pathOf, record, sorted } from './records.ts';
import { evict, pruneAll, seen, store } from './stored-nars.ts';
import { freshPlace, freshStore } from './subject.ts';

export function testSweeps(subject: MetadataStoreSubject): void {
  describe('marks', () => {
    it('are kept over a restart, replaced and removed', async () => {
      const place = await freshPlace(subject);
      const index = await place.open();
      expect(await index.upkeep.getMark('a')).toBeNull();
      await index.upkeep.setMark('a', 'one');
      await index.upkeep.setMark('a', '{"two": "🦫"}');
      expect(await index.upkeep.getMark('a')).toBe('{"two": "🦫"}');
      if (subject.notShared === undefined) {
        expect(await (await place.open()).upkeep.getMark('a')).toBe('{"two": "🦫"}');
      }
      await index.upkeep.setMark('a', null);
      await index.upkeep.setMark('a', null);
      expect(await index.upkeep.getMark('a')).toBeNull();
    });
  });

  describe('lists for sweeps', () => {
    it('have all NARs by id, in pages', async () => {
      const index = await freshStore(subject);
      for (const number of [1, 2, 3]) await record(index, number);
      const first = await index.upkeep.listNars(0, 2);
      const rest = await index.upkeep.listNars(first.at(-1)?.id ?? 0, 2);
      expect([...first, ...rest].map(({ key }) => key)).toEqual([1, 2, 3].map(keyOf));
      expect(await index.upkeep.listNars(rest.at(-1)?.id ?? 0, 2)).toEqual([]);
    });

    it('find NARs and paths by many names at once', async () => {
      const index = await freshStore(subject);
      for (const number of [1, 2, 3]) await record(index, number);
      const many = Array.from({ length: 1100 }, (_, at) => at + 2);
      const nars = await index.upkeep.findNars(many.map(keyOf));
      expect(sorted(nars.map(({ key }) => key))).toEqual([2, 3].map(keyOf));
      const paths = await index.upkeep.findPaths(many.map(hashOf));
      expect(sorted(paths.map(({ path }) => path.hash))).toEqual([2, 3].map(hashOf));
      expect(paths.find(({ path }) => path.hash === hashOf(2))).toEqual(await index.getPath(hashOf(2)));
      expect(await index.upkeep.findNars([])).toEqual([]);
      expect(await index.upkeep.findPaths([])).toEqual([]);
    });

    it('name pushed paths with references that are not there', async () => {
      const index = await freshStore(subject);
      await store(index, 1, { references: [2, 3, 4, 5], pushed: true });
      await store(index, 2, { pushed: true });
      await store(index, 3);
      await evict(index, 3);
      await store(index, 4, { pushed: true });
      await evict(index, 4);
      await store(index, 6, { references: [7] });
      const [first, ...others] = await index.upkeep.listDangling(0, 10);
      expect(others).toEqual([]);
      expect(first).toEqual({
        id: first?.id,
        hash: hashOf(1),
        storePath: pathOf(1).storePath,
        missing: hashOf(4),
        missingCount: 2,
      });
      expect(await index.upkeep.listDangling(first?.id ?? 0, 10)).toEqual([]);
    });

    it('count paths', async () => {
      const index = await freshStore(subject);
      expect(await index.upkeep.countPaths()).toBe(0);
      await record(index, 1, [2, 3]);
      await record(index, 2);
      expect(await index.upkeep.countPaths()).toBe(2);
    });
  });

  describe('totals', () => {
    it('are counted anew, without a difference where all went well', async () => {
      const index = await freshStore(subject);
      for (const number of [1, 2, 3, 20]) await store(index, number, { size: number });
      await evict(index, 2);
      const totals = { presentBytes: 24, presentNars: 3 };
      for (const repair of [false, true]) {
        expect(await index.upkeep.recountTotals({ repair })).toEqual({ counted: totals, actual: totals });
      }
      expect(await index.totals()).toEqual(totals);
    });

    it('that went wrong are told, and set right only where that is asked', async (context) => {
      const place = await freshPlace(subject);
      const { run } = place;
      if (run === undefined) return context.skip(`${subject.name}: nothing else can write to its index`);
      const index = await place.open();
      for (const number of [1, 2, 3]) await store(index, number, { size: number });
      await index.upkeep.markEvicting(await seen(index, 3), NOW);
      // One counter too high, one too low; those of NARs that nobody counted, and of none at all.
      await run(
        'update size_counters set present_bytes = present_bytes + 100, present_nars = 7 where shard = 1',
      );
      await run('update size_counters set present_bytes = 0, present_nars = 0 where shard = 2');
      await run('update size_counters set present_bytes = -5 where shard = 9');
      const counted = await index.totals();
      const actual = { presentBytes: 6, presentNars: 3 };
      expect(counted).not.toEqual(actual);
      expect(await index.upkeep.recountTotals({ repair: false })).toEqual({ counted, actual });
      expect(await index.totals()).toEqual(counted);
      expect(await index.upkeep.recountTotals({ repair: true })).toEqual({ counted, actual });
      expect(await index.totals()).toEqual(actual);
      await evict(index, 1, 2);
      expect(await index.totals()).toEqual({ presentBytes: 3, presentNars: 1 });
    });
  });

  describe('pruning', () => {
    it('forgets paths that nobody used for long, with all that only they named', async () => {
      const index = await freshStore(subject);
      await record(index, 1, [2, 3]);
      await record(index, 2);
      await store(index, 4, { references: [3] });
      await evict(index, 4);
      expect(await pruneAll(index, NOW + 1)).toBe(3);
      expect(await index.upkeep.countPaths()).toBe(0);
      expect(await index.upkeep.listNars(0, 10)).toEqual([]);
      // Of nodes too nothing is left to be looked at.
      expect(await index.upkeep.pruneOrphans('nodes', { afterId: 0, limit: 1 })).toEqual({
        lastId: null,
        removed: 0,
      });
      expect(await index.closure([hashOf(1)])).toEqual([hashOf(1)]);
      await record(index, 1, [2]);
      expect(sorted(await index.closure([hashOf(1)]))).toEqual([1, 2].map(hashOf));
    });

    it('spares what is stored, quarantined, pinned, or was recorded or used since', async () => {
      const index = await freshStore(subject);
      await store(index, 1);
      await store(index, 2);
      await index.markQuarantined(keyOf(2), 'wrong');
      await record(index, 3, [4]);
      await record(index, 4);
      await index.upkeep.putPin({
        name: 'three',
        storePath: pathOf(3).storePath,
        hash: hashOf(3),
        createdAt: NOW,
        expiresAt: null,
      });
      await index.recordPath(pathOf(5, [], { recordedAt: NOW + 10 }), narOf(5));
      await store(index, 6, { at: NOW + 10 });
      await evict(index, 6);
      await record(index, 7, [1]);
      expect(await pruneAll(index, NOW + 10)).toBe(1);
      const left = await index.upkeep.findPaths([1, 2, 3, 4, 5, 6, 7].map(hashOf));
      expect(sorted(left.map(({ path }) => path.hash))).toEqual([1, 2, 3, 4, 5, 6].map(hashOf));
      expect((await index.totals()).presentNars).toBe(1);
    });

    it('keeps a NAR that another path claims, and the nodes that others refer to', async () => {
      const index = await freshStore(subject);
      await record(index, 1);
      await index.recordPath(pathOf(2, [1], { recordedAt: NOW + 10 }), narOf(1));
      expect(await pruneAll(index, NOW + 5)).toBe(1);
      expect((await index.getNar(keyOf(1)))?.paths.map(({ hash }) => hash)).toEqual([hashOf(2)]);
      expect(await index.references(hashOf(2))).toEqual([hashOf(1)]);
    });
  });
}
