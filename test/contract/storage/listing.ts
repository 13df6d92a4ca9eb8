import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { InvalidKeyError } from '../../../src/storage/blob-store.ts';
import type { BlobStoreContract } from './blob-store.contract.ts';
import { bytesOf, keysOf, open, store as put } from './subject.ts';

export function testListing(contract: BlobStoreContract): void {
  describe('listing', () => {
    test('an empty store, and a prefix that nothing has, list nothing', async () => {
      const { store } = await open(contract);
      expect(await keysOf(store, '')).toEqual([]);
      await put(store, 'nar/a', bytesOf('a'));
      expect(await keysOf(store, 'log/')).toEqual([]);
      expect(await keysOf(store, 'nar/b')).toEqual([]);
    });

    test('each object is listed with its size and time', async () => {
      const { store } = await open(contract);
      await put(store, 'nar/a', bytesOf('four'));
      const listed = [];
      for await (const info of store.list('')) listed.push(info);
      expect(listed).toEqual([await store.head('nar/a')]);
      expect(listed[0]?.size).toBe(4);
    });

    test('keys come in the order of their code units, across folders', async () => {
      const { store } = await open(contract);
      // "-" and "," sort before "/", digits and letters after it.
      const keys = [
        'a,b',
        'a-b',
        'a/b',
        'a/b-c',
        'a/b0',
        'a0',
        'aa/x',
        'B',
        'nar/Z',
        'nar/a',
        'nar/a-/x',
        'nar/a_',
      ];
      for (const key of keys.toReversed()) await put(store, key, bytesOf(key));
      expect(await keysOf(store, '')).toEqual(keys.toSorted());
      expect(await keysOf(store, 'a')).toEqual(['a,b', 'a-b', 'a/b', 'a/b-c', 'a/b0', 'a0', 'aa/x']);
      expect(await keysOf(store, 'a/')).toEqual(['a/b', 'a/b-c', 'a/b0']);
      expect(await keysOf(store, 'a/b')).toEqual(['a/b', 'a/b-c', 'a/b0']);
    });

    test('more than a thousand keys are listed once each, and from any of them on', async () => {
      const { store } = await open(contract);
      const keys = Array.from({ length: 1203 }, (_, n) => `nar/${String(n).padStart(5, '0')}`);
      await Promise.all(keys.map((key) => put(store, key, bytesOf('x'))));
      expect(await keysOf(store, 'nar/')).toEqual(keys);
      expect(await keysOf(store, '', 'nar/00999')).toEqual(keys.slice(1000));
      expect(await keysOf(store, '', 'nar/00999a')).toEqual(keys.slice(1000));
      expect(await keysOf(store, 'nar/01', 'nar/00500')).toEqual(keys.slice(1000));
      expect(await keysOf(store, '', 'nar')).toEqual(keys);
      expect(await keysOf(store, '', 'nar/')).toEqual(keys);
      expect(await keysOf(store, '', 'nar0')).toEqual([]);
    });

    test('any set of keys, prefix and start gives what filtering and sorting gives', async () => {
      const segment = fc.stringMatching(/^[ab0_][ab0.,_-]{0,2}$/);
      // Files under files cannot be: each depth has names of its own.
      const key = fc.oneof(
        segment.map((name) => `f${name}`),
        fc.tuple(segment, segment).map(([folder, name]) => `d${folder}/f${name}`),
        fc.tuple(segment, segment, segment).map(([a, b, name]) => `d${a}/d${b}/f${name}`),
      );
      await fc.assert(
        fc.asyncProperty(
          fc.uniqueArray(key, { maxLength: 25 }),
          fc.nat(),
          fc.nat(),
          fc.nat(),
          async (keys, prefixOf, length, afterOf) => {
            const subject = await contract.create();
            try {
              await Promise.all(keys.map((name) => put(subject.store, name, bytesOf('x'))));
              const whole = keys[prefixOf % (keys.length + 1)] ?? '';
              const prefix = whole.slice(0, length % (whole.length + 1));
              const after = keys[afterOf % (keys.length + 1)];
              const expected = keys.filter(
                (name) => name.startsWith(prefix) && (after === undefined || name > after),
              );
              expect(await keysOf(subject.store, prefix, after)).toEqual(expected.toSorted());
            } finally {
              await subject.store.close();
              await subject.cleanup();
            }
          },
        ),
        { numRuns: 40 },
      );
    });

    test('a listing may be left, and what is deleted meanwhile is no error', async () => {
      const { store } = await open(contract);
      const keys = Array.from({ length: 300 }, (_, n) => `nar/${String(n).padStart(3, '0')}`);
      await Promise.all(keys.map((key) => put(store, key, bytesOf('x'))));
      for await (const { key } of store.list('nar/')) if (key === 'nar/010') break;
      const seen: string[] = [];
      for await (const { key } of store.list('nar/')) {
        seen.push(key);
        if (key === 'nar/010') await store.delete(keys.slice(200));
      }
      expect(seen.slice(0, 200)).toEqual(keys.slice(0, 200));
    });

    test.each(['..', '../', '/', '/etc/', 'nar/../', 'nar//', '.snowcap/', '.', 'nar/.', 'a b'])(
      'the prefix %j is refused',
      async (prefix) => {
        const { store } = await open(contract);
        await expect((async () => keysOf(store, prefix))()).rejects.toThrow(InvalidKeyError);
      },
    );
  });
}
