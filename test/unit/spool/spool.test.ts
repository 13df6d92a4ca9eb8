import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createDiskSpool } from '../../../src/spool/disk.ts';
import { createMemorySpool } from '../../../src/spool/memory.ts';
import type { Spool, SpoolFile } from '../../../src/spool/spool.ts';
import { StorageError } from '../../../src/storage/blob-store.ts';
import { createFileStore } from '../../../src/storage/file.ts';
import { createMemoryStore } from '../../../src/storage/memory.ts';
import { recordSteps } from '../../support/checkpoint.ts';

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'snowcap-spool-'));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

const SPOOLS: readonly (readonly [name: string, create: () => Promise<Spool>])[] = [
  ['disk', async () => createDiskSpool({ directory: join(await folder(), 'spool') })],
  ['memory', async () => createMemorySpool()],
];

/** Reads from a position to what is written, in pieces of at most `maxLength`. */
async function readAll(file: SpoolFile, position: number, maxLength: number): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for (let at = position; at < file.written;) {
    const piece = await file.read(at, maxLength);
    expect(piece.length).toBeGreaterThan(0);
    expect(piece.length).toBeLessThanOrEqual(maxLength);
    pieces.push(piece);
    at += piece.length;
  }
  return Buffer.concat(pieces);
}

function pattern(size: number, seed: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, n) => (n * 31 + seed) % 251);
}

describe.each(SPOOLS)('a spool in %s', (kind, create) => {
  test('any reads of any appends give the bytes appended', async () => {
    const spool = await create();
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 5000 }), { minLength: 1, maxLength: 8 }),
        fc.nat(),
        fc.integer({ min: 1, max: 9000 }),
        async (sizes, from, maxLength) => {
          const file = await spool.create('nar/x');
          const chunks = sizes.map((size, n) => pattern(size, n));
          const whole = Buffer.concat(chunks);
          for (const chunk of chunks) await file.append(chunk);
          expect(file.written).toBe(whole.length);
          const position = whole.length === 0 ? 0 : from % whole.length;
          expect((await readAll(file, position, maxLength)).equals(whole.subarray(position))).toBe(true);
          await file.discard();
        },
      ),
      { numRuns: 50 },
    );
    await spool.close();
  });

  test('many readers at once follow a file that grows, and each gets the whole', async () => {
    const spool = await create();
    const file = await spool.create('nar/x');
    const chunks = Array.from({ length: 40 }, (_, n) => pattern(30_000 + n, n));
    const whole = Buffer.concat(chunks);
    const follow = async (maxLength: number): Promise<Buffer> => {
      const pieces: Uint8Array[] = [];
      for (let at = 0; at < whole.length;) {
        if (at >= file.written) {
          await new Promise(setImmediate);
          continue;
        }
        const piece = await file.read(at, maxLength);
        pieces.push(piece);
        at += piece.length;
      }
      return Buffer.concat(pieces);
    };
    const followers = Array.from({ length: 20 }, (_, n) => follow(1000 + n * 10_000));
    for (const chunk of chunks) await file.append(chunk);
    for (const body of await Promise.all(followers)) expect(body.equals(whole)).toBe(true);
    await file.discard();
  });

  test('a chunk may be reused as soon as it is appended', async () => {
    const spool = await create();
    const file = await spool.create('nar/x');
    const chunk = new Uint8Array(1000);
    for (let n = 1; n <= 3; n++) {
      chunk.fill(n);
      await file.append(chunk);
    }
    chunk.fill(9);
    const body = await readAll(file, 0, 10_000);
    expect([body[0], body[1000], body[2999]]).toEqual([1, 2, 3]);
    await file.discard();
  });

  test('reading where nothing is written, or nothing at all, is a RangeError', async () => {
    const spool = await create();
    const file = await spool.create('nar/x');
    await expect(file.read(0, 1)).rejects.toThrow(RangeError);
    await file.append(pattern(10, 0));
    for (const [position, length] of [
      [10, 1],
      [11, 1],
      [-1, 1],
      [0.5, 1],
      [0, 0],
      [0, -1],
    ] as const) {
      await expect(file.read(position, length)).rejects.toThrow(RangeError);
    }
    await file.discard();
  });

  test('a discarded file gives and takes nothing any more, and discarding it twice is no error', async () => {
    const spool = await create();
    const file = await spool.create('nar/x');
    await file.append(pattern(10, 0));
    const reading = file.read(0, 10);
    await Promise.all([file.discard(), file.discard()]);
    await file.discard();
    expect(await reading).toHaveLength(10);
    await expect(file.read(0, 1)).rejects.toThrow(StorageError);
    await expect(file.append(pattern(1, 0))).rejects.toThrow(StorageError);
    expect(() => file.source()).toThrow('Cannot hand over spooled "nar/x": it is discarded');
  });

  test('a file that was handed over takes no more, and is read until it is discarded', async () => {
    const spool = await create();
    const file = await spool.create('nar/x');
    const bytes = pattern(400_000, 0);
    await file.append(bytes);
    const source = file.source();
    expect(source.kind).toBe(kind === 'disk' ? 'file' : 'bytes');
    await expect(file.append(pattern(1, 0))).rejects.toThrow(StorageError);
    const store = kind === 'disk' ? await createFileStore({ root: await folder() }) : createMemoryStore();
    expect(await store.put('nar/x', source)).toEqual({ written: true, size: bytes.length });
    expect((await readAll(file, 0, 50_000)).equals(bytes)).toBe(true);
    await store.delete(['nar/x']);
    expect((await readAll(file, 0, 50_000)).equals(bytes)).toBe(true);
    await store.put('nar/y', { kind: 'bytes', bytes });
    await file.discard();
    expect(await store.head('nar/y')).toMatchObject({ size: bytes.length });
    await store.close();
    await spool.close();
  });

  test('a file of no bytes can be handed over', async () => {
    const spool = await create();
    const file = await spool.create('nar/x');
    expect(file.source()).toMatchObject(kind === 'disk' ? { size: 0 } : { bytes: new Uint8Array() });
    await file.discard();
  });
});

test('a memory spool refuses what is larger than its limit, and keeps what it has', async () => {
  const file = await createMemorySpool({ fileLimit: 100 }).create('nar/x');
  await file.append(pattern(100, 0));
  await expect(file.append(pattern(1, 0))).rejects.toThrow(
    'Cannot append to spooled "nar/x": it would be larger than 100 bytes',
  );
  expect(file.written).toBe(100);
  expect(await file.read(0, 1000)).toHaveLength(100);
  await expect(file.append(pattern(1, 0))).rejects.toThrow(StorageError);
  expect(() => file.source()).toThrow(StorageError);
});

describe('a spool on disk', () => {
  test('frees its disk with each file, and its folder at the end', async () => {
    const directory = await folder();
    const { steps, checkpoint } = recordSteps();
    const spool = await createDiskSpool({ directory, checkpoint });
    const file = await spool.create('nar/x');
    await file.append(pattern(10, 0));
    expect(await readdir(directory, { recursive: true })).toHaveLength(2);
    await file.discard();
    expect(await readdir(directory, { recursive: true })).toHaveLength(1);
    await spool.close();
    expect(await readdir(directory)).toEqual([]);
    expect(steps).toEqual(['spool:create', 'spool:append', 'spool:discard']);
  });

  test('on the file system of a store, the store moves the file', async () => {
    const root = await folder();
    const store = await createFileStore({ root });
    const spool = await createDiskSpool({ directory: join(root, '.snowcap/spool') });
    const file = await spool.create('nar/x');
    await file.append(pattern(1000, 0));
    const source = file.source();
    if (source.kind !== 'file') throw new Error('Expected a file');
    const inode = (await stat(source.path)).ino;
    await store.put('nar/x', source);
    expect((await stat(join(root, 'nar/x'))).ino).toBe(inode);
    await file.discard();
    expect((await stat(join(root, 'nar/x'))).ino).toBe(inode);
    await spool.close();
    await store.close();
  });

  test('removes at the beginning what a killed process left', async () => {
    const directory = await folder();
    const first = await createDiskSpool({ directory });
    const [own = ''] = await readdir(directory);
    // Process ids end at 2^22.
    const dead = join(directory, own.replace(/-\d+-[0-9a-f]+$/, '-9999999-0123456789abcdef'));
    await mkdir(dead);
    await writeFile(join(dead, '0'), 'left');
    const second = await createDiskSpool({ directory });
    expect(await readdir(directory)).toHaveLength(2);
    await expect(stat(dead)).rejects.toThrow('ENOENT');
    await first.close();
    await second.close();
  });

  test('two appends at once are refused rather than mixed', async () => {
    const spool = await createDiskSpool({ directory: await folder() });
    const file = await spool.create('nar/x');
    const both = await Promise.allSettled([file.append(pattern(10, 0)), file.append(pattern(10, 1))]);
    expect(both.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
    expect(file.written).toBe(10);
    await file.discard();
    await spool.close();
  });

  test('a directory that cannot be made is a StorageError', async () => {
    const directory = await folder();
    await writeFile(join(directory, 'file'), '');
    await expect(createDiskSpool({ directory: join(directory, 'file') })).rejects.toThrow(StorageError);
  });
});
