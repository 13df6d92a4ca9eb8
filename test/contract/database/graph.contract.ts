import { describe, expect, it } from 'vitest';
import type { MetadataStoreSubject } from './metadata-store.contract.ts';
import { hashOf, narOf, pathOf, record, sorted } from './records.ts';
import { freshStore } from './subject.ts';

export function testGraph(subject: MetadataStoreSubject): void {
  describe('references', () => {
    it('are the hashes referred to, known or not, each once, without the path itself', async () => {
      const store = await freshStore(subject);
      await record(store, 2);
      await record(store, 1, [1, 2, 3, 3]);
      expect(sorted(await store.references(hashOf(1)))).toEqual([hashOf(2), hashOf(3)]);
      expect((await store.getPath(hashOf(1)))?.path.references).toHaveLength(4);
    });

    it('are none for a path without, for a hash that is only referred to and for an unknown one', async () => {
      const store = await freshStore(subject);
      await record(store, 1, [2]);
      await record(store, 3, [3]);
      for (const number of [2, 3, 4]) expect(await store.references(hashOf(number))).toEqual([]);
    });

    it('may be more than a thousand', async () => {
      const store = await freshStore(subject);
      const numbers = Array.from({ length: 2500 }, (_, at) => at + 2);
      await record(store, 1, numbers);
      expect(sorted(await store.references(hashOf(1)))).toEqual(sorted(numbers.map(hashOf)));
    });

    it('are recorded once where a path is recorded again', async () => {
      const store = await freshStore(subject);
      await record(store, 1, [2, 3]);
      await record(store, 1, [2, 3]);
      expect(sorted(await store.references(hashOf(1)))).toEqual([hashOf(2), hashOf(3)]);
    });
  });

  describe('closures', () => {
    it('follow references to their end, with the roots', async () => {
      const store = await freshStore(subject);
      await record(store, 1, [2, 3]);
      await record(store, 2, [4]);
      await record(store, 9, [1]);
      expect(sorted(await store.closure([hashOf(1)]))).toEqual([1, 2, 3, 4].map(hashOf));
    });

    it('have roots that are unknown, and each root once', async () => {
      const store = await freshStore(subject);
      await record(store, 1, [2]);
      const roots = [hashOf(7), hashOf(1), hashOf(7), hashOf(2)];
      expect(sorted(await store.closure(roots))).toEqual([1, 2, 7].map(hashOf));
      expect(await store.closure([])).toEqual([]);
    });

    it('end on cycles', async () => {
      const store = await freshStore(subject);
      await record(store, 1, [2, 1]);
      await record(store, 2, [3]);
      await record(store, 3, [1]);
      expect(sorted(await store.closure([hashOf(2)]))).toEqual([1, 2, 3].map(hashOf));
    });

    it('reach a path that was recorded after those that refer to it', async () => {
      const store = await freshStore(subject);
      await record(store, 1, [2]);
      expect(sorted(await store.closure([hashOf(1)]))).toEqual([1, 2].map(hashOf));
      await record(store, 2, [3]);
      expect(sorted(await store.closure([hashOf(1)]))).toEqual([1, 2, 3].map(hashOf));
    });

    it('follow the references of the record that won', async () => {
      const store = await freshStore(subject);
      await record(store, 1, [2]);
      await store.recordPath(pathOf(1, [5]), narOf(1));
      expect(sorted(await store.closure([hashOf(1)]))).toEqual([1, 2].map(hashOf));
    });

    it('of 5,000 paths in a chain with shared references and a cycle are whole', async () => {
      const store = await freshStore(subject);
      const size = 5000;
      for (let number = 1; number <= size; number++) {
        const next = (number % size) + 1;
        await record(store, number, [next, ((number * 7) % size) + 1, ((number * 13) % size) + 1]);
      }
      const closure = await store.closure([hashOf(1)]);
      expect(closure).toHaveLength(size);
      expect(new Set(closure).size).toBe(size);
    });
  });
}
