import { describe, expect, it } from 'vitest';
import { MetadataError, type MetadataStore } from '../../../src/database/metadata-store.ts';
import type { MetadataStoreSubject } from './metadata-store.contract.ts';
import { hashOf, keyOf, narOf, pathOf, record, storedNar } from './records.ts';
import { freshPlace, freshStore } from './subject.ts';

/** Several callers at once: over one handle, and over several where the driver allows it. */
export function testConcurrency(subject: MetadataStoreSubject): void {
  describe('at the same time', () => {
    it('all who record one path are answered the same record', async () => {
      const store = await freshStore(subject);
      const numbers = Array.from({ length: 20 }, (_, at) => at + 1);
      const answers = await Promise.all(
        numbers.map((number) => store.recordPath(pathOf(1, [number + 1]), narOf(number))),
      );
      for (const answer of answers) expect(answer).toEqual(answers[0]);
      expect(await store.references(hashOf(1))).toHaveLength(1);
    });

    it('one of many wins each compare-and-set', async () => {
      const store = await freshStore(subject);
      const { path } = await record(store, 1);
      const generation = (await store.markPresent(keyOf(1), storedNar(1))) ?? -1;
      const ten = Array.from({ length: 10 });
      const absent = await Promise.all(ten.map(() => store.markAbsent(keyOf(1), generation)));
      expect(absent.filter(Boolean)).toHaveLength(1);
      const change = { signatures: [], justification: { kind: 'pushed' } } as const;
      const justified = await Promise.all(
        ten.map(() => store.rejustifyPath(hashOf(1), path.revision, change)),
      );
      expect(justified.filter(Boolean)).toHaveLength(1);
    });

    it('every fill of one NAR gets a generation of its own, and the NAR is counted once', async () => {
      const store = await freshStore(subject);
      await record(store, 1);
      const fills = Array.from({ length: 10 }, () => store.markPresent(keyOf(1), storedNar(1)));
      expect(new Set(await Promise.all(fills)).size).toBe(10);
      expect(await store.totals()).toEqual({ presentBytes: 501, presentNars: 1 });
    });
  });

  describe('over several handles', () => {
    it('what one handle records, every other one answers', async (context) => {
      if (subject.notShared !== undefined) context.skip(subject.notShared);
      const place = await freshPlace(subject);
      const [one, other] = [await place.open(), await place.open()];
      const recorded = await record(one, 1, [2]);
      expect(await other.getPath(hashOf(1))).toEqual(recorded);
      expect(await other.recordPath(pathOf(1, [3]), narOf(3))).toEqual(recorded);
      expect(await other.markPresent(keyOf(1), storedNar(1))).toBe(1);
      expect(await one.totals()).toEqual({ presentBytes: 501, presentNars: 1 });
      expect(await one.markAbsent(keyOf(1), 1)).toBe(true);
      expect(await other.markAbsent(keyOf(1), 1)).toBe(false);
    });

    it('all agree on the first record of each path', async (context) => {
      if (subject.notShared !== undefined) context.skip(subject.notShared);
      const place = await freshPlace(subject);
      const handles: MetadataStore[] = [];
      for (let at = 0; at < 4; at++) handles.push(await place.open());
      for (let number = 1; number <= 50; number++) {
        const answers = await Promise.all(
          handles.map((handle, at) =>
            handle.recordPath(
              pathOf(number, [1000 + at], { origin: `https://${at}.example.org` }),
              narOf(number * 10 + at),
            ),
          ),
        );
        for (const answer of answers) expect(answer).toEqual(answers[0]);
      }
    });

    it('everything is there after closing and opening', async (context) => {
      if (subject.notShared !== undefined) context.skip(subject.notShared);
      const place = await freshPlace(subject);
      const first = await place.open();
      for (let number = 1; number <= 20; number++) {
        await record(first, number, [number + 1]);
        await first.markPresent(keyOf(number), storedNar(number));
      }
      await first.markQuarantined(keyOf(3), 'wrong');
      const before = { paths: await first.listPaths(0, 100), totals: await first.totals() };
      await first.close();
      const second = await place.open();
      expect({ paths: await second.listPaths(0, 100), totals: await second.totals() }).toEqual(before);
      expect(await second.references(hashOf(20))).toEqual([hashOf(21)]);
    });
  });

  describe('a closed index', () => {
    it('may be closed again, and refuses everything else', async () => {
      const store = await freshStore(subject);
      await store.ping();
      await store.close();
      await store.close();
      await expect(store.ping()).rejects.toThrow(MetadataError);
      await expect(store.getPath(hashOf(1))).rejects.toThrow(/getPath/);
      await expect(record(store, 1)).rejects.toThrow(/recordPath/);
    });
  });
}
