import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { StorageError } from '../../../src/storage/blob-store.ts';
import { createFolders } from '../../../src/storage/file-folders.ts';
import { createPace } from '../../../src/storage/file-pace.ts';
import type { Pace } from '../../../src/storage/file-pace.ts';
import { readObject } from '../../../src/storage/file-read.ts';
import { createFileStore } from '../../../src/storage/file.ts';
import { expectFound, found, noise, store as put, whole } from './subject.ts';

describe('a slow disk', () => {
  function pace(): {
    readonly pace: Pace;
    take(milliseconds: number, reads: number): void;
    pass(milliseconds: number): void;
  } {
    let now = 1000;
    let diskReads = 7;
    const timed = createPace(
      () => now,
      () => diskReads,
    );
    return {
      pace: timed,
      take(milliseconds, reads) {
        timed.time(() => {
          now += milliseconds;
          diskReads += reads;
        });
      },
      pass(milliseconds) {
        now += milliseconds;
      },
    };
  }

  test('a read that waited for the disk sends the next ones to the thread pool for a multiple of its time', () => {
    const disk = pace();
    disk.take(0.1, 1);
    disk.take(4.9, 1);
    expect(disk.pace.mayBlock()).toBe(true);
    disk.take(20, 1);
    expect(disk.pace.mayBlock()).toBe(false);
    disk.pass(1_999);
    expect(disk.pace.mayBlock()).toBe(false);
    disk.pass(1);
    expect(disk.pace.mayBlock()).toBe(true);
  });

  test('a read that only waited for a core does not, unless it took very long', () => {
    const busy = pace();
    busy.take(50, 0);
    expect(busy.pace.mayBlock()).toBe(true);
    busy.take(101, 0);
    expect(busy.pace.mayBlock()).toBe(false);
  });

  test('a call that fails is timed too', () => {
    const disk = pace();
    expect(() =>
      disk.pace.time(() => {
        disk.pass(150);
        throw new Error('EIO');
      }),
    ).toThrow('EIO');
    expect(disk.pace.mayBlock()).toBe(false);
  });

  test('reads in the thread pool give what reads in place give', async () => {
    const root = await mkdtemp(join(tmpdir(), 'snowcap-pace-'));
    const store = await createFileStore({ root });
    onTestFinished(async () => {
      await store.close();
      await rm(root, { recursive: true });
    });
    const bytes = noise(300_000);
    await put(store, 'nar/x', bytes);
    await mkdir(join(root, 'folder'));
    const folders = createFolders(root, async () => undefined);
    const fault = (): never => {
      throw new Error('a call in place');
    };
    const context = { folders, inlineLimit: 200_000, pace: { mayBlock: () => false, time: fault } };
    for (const range of [{ start: 5, end: 9 }, { suffix: 200_000 }, { start: 0 }]) {
      const pooled = expectFound('nar/x', await readObject(context, 'nar/x', { range }));
      const inPlace = await found(store, 'nar/x', { range });
      expect({ ...pooled, body: null }).toEqual({ ...inPlace, body: null });
      expect(Buffer.compare(await whole(pooled), await whole(inPlace))).toBe(0);
    }
    expect(await readObject(context, 'nar/y')).toBeNull();
    await expect(readObject(context, 'folder')).rejects.toThrow(StorageError);
  });
});
