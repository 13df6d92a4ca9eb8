import { describe, expect, test } from 'vitest';
import { StorageError } from '../../../src/storage/blob-store.ts';
import type { BlobStore } from '../../../src/storage/blob-store.ts';
import { streamOf } from '../../../src/stream/byte-stream.ts';
import type { ByteStream } from '../../../src/stream/byte-stream.ts';
import type { BlobStoreContract, BlobStoreSubject } from './blob-store.contract.ts';
import { exists, fileOf, reusing, watched } from './sources.ts';
import { bodyOf, bytesOf, keysOf, noise, open, heldBy, store as put, textOf } from './subject.ts';

const KEY = 'nar/one.nar';

export function testWriting(contract: BlobStoreContract): void {
  const { unsupported = {} } = contract;

  describe('writing', () => {
    test('a put says that it wrote, and how many bytes are there; a second one replaces the first', async () => {
      const { store } = await open(contract);
      expect(await store.put(KEY, { kind: 'bytes', bytes: bytesOf('first') })).toEqual({
        written: true,
        size: 5,
      });
      expect(await store.put(KEY, { kind: 'bytes', bytes: bytesOf('2nd') })).toEqual({
        written: true,
        size: 3,
      });
      expect(await textOf(store, KEY)).toBe('2nd');
    });

    test('a key may be made of any character that keys have, each its own', async () => {
      const { store } = await open(contract);
      const keys = ['nar/a+b.nar', 'nar/a=20b.nar', 'nar/a?b=c@d!e~f,g:h', '+=?!@~,:-/_.-'];
      for (const key of keys) await put(store, key, bytesOf(key));
      await expect(put(store, 'nar/a%2Bb.nar', bytesOf(''))).rejects.toThrow('unsafe character');
      expect(await keysOf(store, '')).toEqual(keys.toSorted());
      expect(await keysOf(store, 'nar/a', 'nar/a+b.nar')).toEqual(['nar/a=20b.nar', 'nar/a?b=c@d!e~f,g:h']);
      for (const key of keys) {
        expect(await textOf(store, key)).toBe(key);
        expect((await store.head(key))?.size).toBe(key.length);
        const url = await store.createDownloadUrl?.(key, { expiresInSeconds: 60 });
        if (url !== undefined) expect(await (await fetch(url)).text()).toBe(key);
      }
      await store.delete(keys.slice(1));
      expect(await keysOf(store, '')).toEqual([keys[0]]);
    });

    test('what is stored is not changed with the array that it came from', async () => {
      const { store } = await open(contract);
      const bytes = bytesOf('right');
      await put(store, 'bytes', bytes);
      await store.put('stream', { kind: 'stream', stream: reusing(bytesOf('right')) });
      bytes.fill(0);
      expect(await textOf(store, 'bytes')).toBe('right');
      expect(await textOf(store, 'stream')).toBe('rightright');
    });

    test('a stream is stored with its size known or not, also when it has no bytes', async () => {
      const { store } = await open(contract);
      const pieces = [noise(1), noise(70_000), new Uint8Array(), noise(400_000)];
      const all = Buffer.concat(pieces);
      expect(await store.put('a', { kind: 'stream', stream: streamOf(...pieces) })).toEqual({
        written: true,
        size: all.length,
      });
      await store.put('b', { kind: 'stream', stream: streamOf(...pieces), size: all.length });
      await store.put('c', { kind: 'stream', stream: streamOf(), size: 0 });
      expect(all.equals((await bodyOf(store, 'a')) ?? bytesOf(''))).toBe(true);
      expect(all.equals((await bodyOf(store, 'b')) ?? bytesOf(''))).toBe(true);
      expect(await bodyOf(store, 'c')).toHaveLength(0);
    });

    test('a source that throws leaves nothing, and its error is passed on', async () => {
      const subject = await open(contract);
      const fault = new Error('the upstream broke');
      const broken = async function* (): ByteStream {
        yield noise(300_000);
        throw fault;
      };
      await expect(subject.store.put(KEY, { kind: 'stream', stream: broken() })).rejects.toBe(fault);
      await expectNothing(subject);
    });

    test('a source that throws leaves the object that was there', async () => {
      const { store } = await open(contract);
      await put(store, KEY, bytesOf('old'));
      const broken = async function* (): ByteStream {
        yield bytesOf('ne');
        throw new Error('the upstream broke');
      };
      await expect(store.put(KEY, { kind: 'stream', stream: broken() })).rejects.toThrow(
        'the upstream broke',
      );
      expect(await textOf(store, KEY)).toBe('old');
    });

    test.each([
      ['shorter', 10, 11],
      ['longer', 10, 9],
      ['not empty', 1, 0],
      ['empty', 0, 1],
    ])(
      'a stream that is %s than announced is an error, leaves nothing, and is left',
      async (_, real, announced) => {
        const subject = await open(contract);
        const source = watched(streamOf(noise(real)));
        const attempt = subject.store.put(KEY, { kind: 'stream', stream: source.stream, size: announced });
        await expect(attempt).rejects.toThrow(StorageError);
        await expect.poll(() => source.over).toBe(true);
        await expectNothing(subject);
      },
    );

    test('a put with an aborted signal stores nothing and leaves the source', async () => {
      const subject = await open(contract);
      const reason = new Error('shutting down');
      const source = watched(streamOf(noise(10)));
      const signal = AbortSignal.abort(reason);
      await expect(
        subject.store.put(KEY, { kind: 'stream', stream: source.stream }, { signal }),
      ).rejects.toBe(reason);
      await expect(subject.store.put(KEY, { kind: 'bytes', bytes: noise(10) }, { signal })).rejects.toBe(
        reason,
      );
      await expect.poll(() => source.over).toBe(true);
      await expectNothing(subject);
    });

    test('an abort ends a put whose source stands still', async () => {
      const subject = await open(contract);
      const before = heldBy(subject);
      const controller = new AbortController();
      const reason = new Error('shutting down');
      const stuck = async function* (): ByteStream {
        yield noise(1000);
        queueMicrotask(() => {
          controller.abort(reason);
        });
        await new Promise(() => undefined);
      };
      const attempt = subject.store.put(
        KEY,
        { kind: 'stream', stream: stuck() },
        { signal: controller.signal },
      );
      await expect(attempt).rejects.toBe(reason);
      await expectNothing(subject);
      await expect.poll(() => heldBy(subject)).toBe(before);
    });

    test('readers see the old object or a whole new one, never a mixture, while it is replaced', async () => {
      const { store } = await open(contract);
      const size = 400_000;
      const version = (n: number): Uint8Array => new Uint8Array(size + n).fill(n);
      await put(store, KEY, version(1));
      let writing = true;
      const writer = (async () => {
        for (let n = 2; n < 30; n++) {
          const source =
            n % 2 === 0 ? streamOf(version(n).subarray(0, 1000), version(n).subarray(1000)) : null;
          if (source === null) await put(store, KEY, version(n));
          else await store.put(KEY, { kind: 'stream', stream: source });
        }
        writing = false;
      })();
      let reads = 0;
      const reader = async (): Promise<void> => {
        while (writing) {
          const body = await bodyOf(store, KEY);
          const n = body?.[0] ?? 0;
          expect(body).toHaveLength(size + n);
          expect(Buffer.compare(body ?? bytesOf(''), version(n))).toBe(0);
          reads += 1;
          await new Promise(setImmediate);
        }
      };
      await Promise.all([writer, reader(), reader()]);
      expect(reads).toBeGreaterThan(0);
    });

    test('an object is invisible until its put resolves', async () => {
      const { store } = await open(contract);
      const seen: unknown[] = [];
      const slow = async function* (): ByteStream {
        for (let n = 0; n < 5; n++) {
          yield noise(100_000);
          seen.push(await store.get(KEY), await store.head(KEY), ...(await keysOf(store, '')));
        }
      };
      await store.put(KEY, { kind: 'stream', stream: slow() });
      expect(seen).toEqual(Array.from({ length: 10 }, () => null));
      expect(await store.head(KEY)).not.toBeNull();
    });

    test('a reader that began before a deletion reads to the end, or gets an error: never a short body', async () => {
      const { store } = await open(contract);
      const bytes = noise(2_000_000);
      await put(store, KEY, bytes);
      const blob = await store.get(KEY);
      await store.delete([KEY]);
      if (blob?.kind !== 'found' || blob.body.kind !== 'stream') throw new Error('Expected a stream');
      const chunks: Uint8Array[] = [];
      try {
        for await (const chunk of blob.body.stream) chunks.push(chunk);
      } catch {
        return;
      }
      expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
    });

    test('deleting takes any number of keys, and absent ones are no error', async () => {
      const { store } = await open(contract);
      const keys = Array.from({ length: 1001 }, (_, n) => `nar/${n}`);
      await Promise.all(keys.map((key) => put(store, key, bytesOf(key))));
      await put(store, 'kept', bytesOf('kept'));
      await store.delete([...keys, 'absent', 'missing-folder/absent']);
      await store.delete(keys);
      await store.delete([]);
      expect(await keysOf(store, '')).toEqual(['kept']);
    });

    test('a sweep removes nothing that is stored or being written', async () => {
      const { store } = await open(contract);
      await put(store, 'kept', bytesOf('kept'));
      const source = async function* (): ByteStream {
        yield bytesOf('he');
        await store.sweep(Date.now() + 1_000_000);
        yield bytesOf('llo');
      };
      await store.put(KEY, { kind: 'stream', stream: source() });
      expect(await textOf(store, KEY)).toBe('hello');
      expect(await textOf(store, 'kept')).toBe('kept');
    });
  });

  describe('writing if absent', () => {
    const reason = unsupported.ifAbsent;

    test('of 20 writers at once exactly one writes, and all see its bytes', async ({ skip }) => {
      if (reason !== undefined) skip(reason);
      const subject = await open(contract);
      const { store } = subject;
      const results = await Promise.all(
        Array.from({ length: 20 }, async (_, n) => {
          const bytes = new Uint8Array(1000 + n).fill(n);
          const source =
            n % 2 === 0
              ? ({ kind: 'bytes', bytes } as const)
              : ({ kind: 'stream', stream: streamOf(bytes) } as const);
          return { n, ...(await store.put(KEY, source, { ifAbsent: true })), body: await bodyOf(store, KEY) };
        }),
      );
      const winners = results.filter(({ written }) => written);
      expect(winners).toHaveLength(1);
      const winner = winners[0]?.n ?? -1;
      for (const { size, body } of results) {
        expect(size).toBe(1000 + winner);
        expect(Buffer.compare(body ?? bytesOf(''), new Uint8Array(1000 + winner).fill(winner))).toBe(0);
      }
      expect((await subject.leftovers?.()) ?? []).toEqual([]);
    });

    test('an object that is there stays, and one that was deleted is written again', async ({ skip }) => {
      if (reason !== undefined) skip(reason);
      const { store } = await open(contract);
      await put(store, KEY, bytesOf('first'));
      const second = { kind: 'bytes', bytes: bytesOf('2nd') } as const;
      expect(await store.put(KEY, second, { ifAbsent: true })).toEqual({ written: false, size: 5 });
      expect(await textOf(store, KEY)).toBe('first');
      await store.delete([KEY]);
      expect(await store.put(KEY, second, { ifAbsent: true })).toEqual({ written: true, size: 3 });
    });
  });

  describe('taking over a file', () => {
    const reason = unsupported.fileSource;

    test('the object has the bytes of the file, which is gone from its place', async ({ skip }) => {
      if (reason !== undefined) skip(reason);
      const { store } = await open(contract);
      const { path, bytes } = await fileOf(500_000);
      expect(await store.put(KEY, { kind: 'file', path, size: bytes.length })).toEqual({
        written: true,
        size: bytes.length,
      });
      expect(Buffer.compare((await bodyOf(store, KEY)) ?? bytesOf(''), bytes)).toBe(0);
      expect(await exists(path)).toBe(false);
    });

    test('the file is gone too where an object was there already', async ({ skip }) => {
      if (reason !== undefined || unsupported.ifAbsent !== undefined) skip(reason ?? unsupported.ifAbsent);
      const { store } = await open(contract);
      await put(store, KEY, bytesOf('first'));
      const { path } = await fileOf(10);
      const result = await store.put(KEY, { kind: 'file', path, size: 10 }, { ifAbsent: true });
      expect(result).toEqual({ written: false, size: 5 });
      expect(await textOf(store, KEY)).toBe('first');
      expect(await exists(path)).toBe(false);
    });

    test('a file of another size than announced is an error, and stays where it is', async ({ skip }) => {
      if (reason !== undefined) skip(reason);
      const subject = await open(contract);
      const { path } = await fileOf(10);
      for (const size of [9, 11]) {
        await expect(subject.store.put(KEY, { kind: 'file', path, size })).rejects.toThrow(StorageError);
      }
      expect(await exists(path)).toBe(true);
      await expectNothing(subject);
    });

    test('a file that is missing, and an aborted signal, store nothing', async ({ skip }) => {
      if (reason !== undefined) skip(reason);
      const subject = await open(contract);
      const { path } = await fileOf(10);
      const missing = { kind: 'file', path: `${path}-missing`, size: 1 } as const;
      await expect(subject.store.put(KEY, missing)).rejects.toThrow(StorageError);
      const aborted = { signal: AbortSignal.abort(new Error('shutting down')) };
      const source = { kind: 'file', path, size: 10 } as const;
      await expect(subject.store.put(KEY, source, aborted)).rejects.toThrow('shutting down');
      expect(await exists(path)).toBe(true);
      await expectNothing(subject);
    });
  });
}

async function expectNothing(subject: BlobStoreSubject): Promise<void> {
  await expectAbsent(subject.store);
  expect((await subject.leftovers?.()) ?? []).toEqual([]);
}

async function expectAbsent(store: BlobStore): Promise<void> {
  expect(await store.get(KEY)).toBeNull();
  expect(await keysOf(store, '')).toEqual([]);
}
