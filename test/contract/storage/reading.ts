import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ByteRange } from '../../../src/storage/blob-store.ts';
import { INLINE_BODY_LIMIT, InvalidKeyError } from '../../../src/storage/blob-store.ts';
import { leave, streamOf } from '../../../src/stream/byte-stream.ts';
import type { BlobStoreContract } from './blob-store.contract.ts';
import { bodyOf, bytesOf, found, noise, open, heldBy, store as put, whole } from './subject.ts';

const KEY = 'nar/one.nar';
/** Not a multiple of any chunk. */
const LARGE = 3 * 1024 * 1024 + 12_345;

/** Keys that name nothing in any store, with what each would be if it were taken for a path. */
const INVALID_KEYS: readonly string[] = [
  '',
  '/',
  '/etc/passwd',
  '../outside',
  'nar/../../outside',
  'nar/..',
  '.',
  '.snowcap/tmp/x',
  'nar/.hidden',
  'nar//x',
  'nar/',
  'nar/a\\b',
  'nar/a b',
  'nar/a\0b',
  'nar/%2e%2e',
  'nar/é',
  'a'.repeat(201),
  Array.from({ length: 10 }, () => 'a'.repeat(60)).join('/'),
];

export function testReading(contract: BlobStoreContract): void {
  describe('reading', () => {
    test('an absent object is null', async () => {
      const { store } = await open(contract);
      await put(store, 'nar/other.nar', bytesOf('x'));
      expect(await store.get(KEY)).toBeNull();
      expect(await store.get('missing-folder/x')).toBeNull();
      expect(await store.head(KEY)).toBeNull();
      expect(await store.head('missing-folder/x')).toBeNull();
    });

    test('a small object comes as bytes, with its size and time', async () => {
      const { store } = await open(contract);
      const before = Date.now();
      await put(store, KEY, bytesOf('hello'));
      const blob = await found(store, KEY);
      expect(blob.body.kind).toBe('bytes');
      expect(new TextDecoder().decode(await whole(blob))).toBe('hello');
      expect(blob).toMatchObject({ key: KEY, size: 5, start: 0, end: 4 });
      // File systems keep time in ticks of a few milliseconds.
      expect(blob.modifiedAt).toBeGreaterThan(before - 1000);
      expect(blob.modifiedAt).toBeLessThan(Date.now() + 1000);
      expect(await store.head(KEY)).toEqual({ key: KEY, size: 5, modifiedAt: blob.modifiedAt });
    });

    test('an object of no bytes is found, and every range of it is unsatisfiable', async () => {
      const { store } = await open(contract);
      await put(store, KEY, new Uint8Array());
      expect(await found(store, KEY)).toMatchObject({ size: 0, start: 0, end: -1 });
      expect(await bodyOf(store, KEY)).toHaveLength(0);
      expect(await store.get(KEY, { range: { start: 0 } })).toEqual({ kind: 'unsatisfiable', size: 0 });
      expect(await store.get(KEY, { range: { suffix: 5 } })).toEqual({ kind: 'unsatisfiable', size: 0 });
    });

    test('a body up to the inline limit comes as bytes, one byte more as a stream', async () => {
      const { store } = await open(contract);
      const bytes = noise(INLINE_BODY_LIMIT + 1);
      await put(store, 'at', bytes.subarray(1));
      await put(store, 'above', bytes);
      expect((await found(store, 'at')).body.kind).toBe('bytes');
      const above = await found(store, 'above');
      expect(above.body.kind).toBe('stream');
      expect(Buffer.compare(await whole(above), bytes)).toBe(0);
    });

    test.each<[string, ByteRange, number, number]>([
      ['from a byte to a byte', { start: 10, end: 19 }, 10, 19],
      ['one byte', { start: 0, end: 0 }, 0, 0],
      ['to beyond the end', { start: LARGE - 3, end: LARGE + 10 }, LARGE - 3, LARGE - 1],
      ['from a byte on', { start: 1000 }, 1000, LARGE - 1],
      ['the last bytes', { suffix: 7 }, LARGE - 7, LARGE - 1],
      ['more last bytes than there are', { suffix: LARGE + 7 }, 0, LARGE - 1],
      ['across chunks', { start: 262_143, end: 1_048_577 }, 262_143, 1_048_577],
    ])('a range is given exactly: %s', async (_, range, start, end) => {
      const { store } = await open(contract);
      const bytes = noise(LARGE);
      await put(store, KEY, bytes);
      const blob = await found(store, KEY, { range });
      expect(blob).toMatchObject({ size: LARGE, start, end });
      expect(Buffer.compare(await whole(blob), bytes.subarray(start, end + 1))).toBe(0);
    });

    test.each<[string, ByteRange]>([
      ['begins at the end', { start: 100 }],
      ['begins beyond the end', { start: 5000, end: 6000 }],
      ['asks for no last bytes', { suffix: 0 }],
      ['ends before it begins', { start: 5, end: 4 }],
    ])('a range is unsatisfiable that %s', async (_, range) => {
      const { store } = await open(contract);
      await put(store, KEY, noise(100));
      expect(await store.get(KEY, { range })).toEqual({ kind: 'unsatisfiable', size: 100 });
    });

    test('any range of any object is what slicing its bytes gives', async () => {
      const { store } = await open(contract);
      const bytes = noise(700_000);
      let count = 0;
      await fc.assert(
        fc.asyncProperty(
          fc.integer({ min: 1, max: bytes.length }),
          fc.integer({ min: 0, max: bytes.length - 1 }),
          fc.integer({ min: 0, max: bytes.length }),
          async (size, start, length) => {
            const key = `nar/${count++}`;
            await put(store, key, bytes.subarray(0, size));
            const blob = await store.get(key, { range: { start, end: start + length } });
            if (start >= size) {
              expect(blob).toEqual({ kind: 'unsatisfiable', size });
            } else {
              const expected = bytes.subarray(start, Math.min(size, start + length + 1));
              expect(blob).toMatchObject({ start, end: start + expected.length - 1, size });
              const body = await bodyOf(store, key, { range: { start, end: start + length } });
              expect(Buffer.compare(body ?? new Uint8Array(), expected)).toBe(0);
            }
            if (blob?.kind === 'found' && blob.body.kind === 'stream') await leave(blob.body.stream);
          },
        ),
        { numRuns: 40 },
      );
    });

    test('a body that is left frees what it holds: before, at, and after its first chunk', async () => {
      const subject = await open(contract);
      const { store } = subject;
      await put(store, KEY, noise(LARGE));
      await bodyOf(store, KEY);
      const before = heldBy(subject);
      for (let round = 0; round < 10; round++) {
        const unread = await found(store, KEY);
        if (unread.body.kind === 'stream') await leave(unread.body.stream);
        const begun = await found(store, KEY);
        if (begun.body.kind === 'stream') for await (const _ of begun.body.stream) break;
        const waiting = await found(store, KEY);
        if (waiting.body.kind === 'stream') {
          const iterator = waiting.body.stream[Symbol.asyncIterator]();
          await Promise.all([iterator.next(), iterator.return?.()]);
        }
      }
      await expect.poll(() => heldBy(subject)).toBe(before);
    });

    test('a body read to its end frees what it holds, and goes on saying that it is over', async () => {
      const subject = await open(contract);
      const { store } = subject;
      await put(store, KEY, noise(LARGE));
      await bodyOf(store, KEY);
      const before = heldBy(subject);
      const blob = await found(store, KEY);
      if (blob.body.kind !== 'stream') throw new Error('Expected a stream');
      const iterator = blob.body.stream[Symbol.asyncIterator]();
      while ((await iterator.next()).done !== true);
      expect((await iterator.next()).done).toBe(true);
      await expect.poll(() => heldBy(subject)).toBe(before);
    });

    test('an aborted signal ends a get before it began, and a body in the middle, with its reason', async () => {
      const subject = await open(contract);
      const { store } = subject;
      await put(store, KEY, noise(LARGE));
      await bodyOf(store, KEY);
      const before = heldBy(subject);
      const reason = new Error('the client left');
      await expect(store.get(KEY, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
      const controller = new AbortController();
      const blob = await found(store, KEY, { signal: controller.signal });
      const read = async (): Promise<void> => {
        if (blob.body.kind !== 'stream') throw new Error('Expected a stream');
        for await (const _ of blob.body.stream) controller.abort(reason);
      };
      await expect(read()).rejects.toBe(reason);
      await expect.poll(() => heldBy(subject)).toBe(before);
    });

    test('a body of 64 MiB goes in and out as streams, whole', async () => {
      const { store } = await open(contract);
      const piece = noise(1024 * 1024);
      await store.put(KEY, { kind: 'stream', stream: streamOf(...Array.from({ length: 64 }, () => piece)) });
      const blob = await found(store, KEY);
      expect(blob.size).toBe(64 * piece.length);
      expect(blob.body.kind).toBe('stream');
      const body = Buffer.from(await whole(blob));
      for (let at = 0; at < body.length; at += piece.length) {
        expect(body.subarray(at, at + piece.length).equals(piece)).toBe(true);
      }
    });

    test.each(INVALID_KEYS.map((key) => [JSON.stringify(key).slice(0, 40), key]))(
      'the key %s is refused by every method before anything is touched',
      async (_, key) => {
        const { store } = await open(contract);
        await expect(store.get(key)).rejects.toThrow(InvalidKeyError);
        await expect(store.head(key)).rejects.toThrow(InvalidKeyError);
        await expect(store.put(key, { kind: 'bytes', bytes: bytesOf('x') })).rejects.toThrow(InvalidKeyError);
        await put(store, 'kept', bytesOf('x'));
        await expect(store.delete(['kept', key])).rejects.toThrow(InvalidKeyError);
        expect(await store.head('kept')).not.toBeNull();
      },
    );

    test('a store that can be reached answers a ping', async () => {
      const { store } = await open(contract);
      await expect(store.ping()).resolves.toBeUndefined();
      expect(store.description).toMatch(/^[a-z0-9]+:/);
    });
  });
}
