import { mkdir, mkdtemp, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { createFileStore } from '../../../src/storage/file.ts';
import type { BlobStore } from '../../../src/storage/blob-store.ts';
import { openWriterFolder } from '../../../src/storage/writer-folder.ts';
import { runScript } from '../../support/checkpoint.ts';
import { bodyOf, bytesOf, keysOf, store as put } from './subject.ts';

const SCRIPT = join(import.meta.dirname, 'crash-writer.ts');
const KEY = 'nar/x.nar';
const SIZE = 300_000;
let root = '';

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'snowcap-crash-'));
  onTestFinished(() => rm(root, { recursive: true, force: true }));
});

/** Files of writers, finished or not. */
async function unfinished(): Promise<readonly string[]> {
  const entries = await readdir(join(root, '.snowcap/tmp'), { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => entry.name);
}

async function openStore(): Promise<BlobStore> {
  const store = await createFileStore({ root });
  onTestFinished(() => store.close());
  return store;
}

describe('a writer killed at a step', () => {
  const replacing = ['open-temp', 'write', 'sync', 'rename', 'sync-directory'];
  const cases: readonly (readonly [
    kind: string,
    step: string,
    old: boolean,
    shows: 'old' | 'new' | 'none',
  ])[] = [
    ...replacing.map((step) => ['bytes', step, true, step === 'sync-directory' ? 'new' : 'old'] as const),
    ...replacing.map((step) => ['stream', step, false, step === 'sync-directory' ? 'new' : 'none'] as const),
    ['stream', 'make-directory', false, 'none'],
    ['absent', 'link', false, 'none'],
    ['absent', 'unlink-temp', false, 'new'],
    ['absent', 'unlink-temp', true, 'old'],
    ['absent', 'sync-directory', false, 'new'],
    ['file', 'sync', true, 'old'],
    ['file', 'rename', true, 'old'],
    ['file', 'sync-directory', true, 'new'],
  ];

  test.each(cases)('%s, before %s, over an object: %s: readers see %s', async (kind, step, old, shows) => {
    if (old) {
      const store = await createFileStore({ root });
      await put(store, KEY, new Uint8Array(SIZE).fill(1));
      await store.close();
    }
    const path = join(root, '.body');
    if (kind === 'file') await writeFile(path, new Uint8Array(SIZE).fill(2));
    const { signal, stderr } = await runScript(SCRIPT, [
      root,
      KEY,
      kind === 'file' ? path : kind,
      `file-store:${step}`,
    ]);
    expect({ signal, stderr }).toEqual({ signal: 'SIGKILL', stderr: '' });
    expect((await unfinished()).length).toBeLessThanOrEqual(1);

    const store = await openStore();
    expect(await unfinished()).toEqual([]);
    const body = await bodyOf(store, KEY);
    if (shows === 'none') expect(body).toBeNull();
    else
      expect(Buffer.compare(body ?? bytesOf(''), new Uint8Array(SIZE).fill(shows === 'old' ? 1 : 2))).toBe(0);
    expect(await keysOf(store, '')).toEqual(shows === 'none' ? [] : [KEY]);
    await put(store, KEY, bytesOf('next'));
    expect(await bodyOf(store, KEY)).toHaveLength(4);
  });

  test('at any moment of replacing an object again and again: one whole version is there', async () => {
    const store = await openStore();
    await put(store, KEY, new Uint8Array(SIZE).fill(1));
    for (const killAfterMs of [90, 110, 137, 171, 203]) {
      const { signal } = await runScript(SCRIPT, [root, KEY, 'loop'], { killAfterMs });
      expect(signal).toBe('SIGKILL');
      const body = await bodyOf(store, KEY);
      expect(body).toHaveLength(SIZE);
      expect(new Set(body).size).toBe(1);
      await store.sweep(0);
      expect(await unfinished()).toEqual([]);
    }
  });
});

describe('sweeping', () => {
  const host = 'this-host';
  const alive = { host, pid: 100, isAlive: (pid: number) => pid === 100 || pid === 200 };

  async function leftover(name: string, changedAt = Date.now()): Promise<string> {
    const path = join(root, name);
    await mkdir(path, { recursive: true });
    await writeFile(join(path, '0'), '12345');
    for (const each of [join(path, '0'), path]) await utimes(each, changedAt / 1000, changedAt / 1000);
    return path;
  }

  const remains = (path: string): Promise<boolean> =>
    stat(path).then(
      () => true,
      () => false,
    );

  test('takes at once what writers of this host left whose process is gone, or had our own id before', async () => {
    const dead = await leftover('this-host-300-0123456789abcdef');
    const earlier = await leftover('this-host-100-0123456789abcdef');
    const writer = await openWriterFolder(root, alive);
    expect(await writer.sweep(0, { dryRun: true })).toEqual({ removed: 2, freed: 10 });
    expect([await remains(dead), await remains(earlier)]).toEqual([true, true]);
    expect(await writer.sweep(0)).toEqual({ removed: 2, freed: 10 });
    expect([await remains(dead), await remains(earlier), await remains(writer.path)]).toEqual([
      false,
      false,
      true,
    ]);
    await writer.close();
  });

  test('never takes the folder of a living process, however old it is', async () => {
    const living = await leftover('this-host-200-0123456789abcdef', 0);
    const writer = await openWriterFolder(root, alive);
    const second = await openWriterFolder(root, alive);
    expect(await writer.sweep(Date.now() + 1_000_000)).toEqual({ removed: 0, freed: 0 });
    expect([await remains(living), await remains(second.path)]).toEqual([true, true]);
    await writer.close();
    await second.close();
  });

  test('takes what other hosts left by its age only, counted from the last change', async () => {
    const old = await leftover('other-host-100-0123456789abcdef', 1_000_000);
    const young = await leftover('other-host-300-0123456789abcdef', 3_000_000);
    const unknown = await leftover('something', 1_000_000);
    const writer = await openWriterFolder(root, alive);
    expect(await writer.sweep(2_000_000)).toEqual({ removed: 2, freed: 10 });
    expect([await remains(old), await remains(young), await remains(unknown)]).toEqual([false, true, false]);
    await writer.close();
  });

  test('at start takes what other hosts left a day ago, by the clock given', async () => {
    const path = join('.snowcap/tmp', 'other-host-1-0123456789abcdef');
    const day = 24 * 60 * 60 * 1000;
    const left = await leftover(path, 1_000_000);
    const early = await createFileStore({ root, now: () => 1_000_000 + day });
    expect(await remains(left)).toBe(true);
    await early.close();
    const late = await createFileStore({ root, now: () => 1_000_001 + day });
    expect(await remains(left)).toBe(false);
    await late.close();
  });

  test('a writer whose folder was taken makes it anew', async () => {
    const writer = await openWriterFolder(root, alive);
    await rm(writer.path, { recursive: true });
    const store = await openStore();
    await put(store, KEY, bytesOf('x'));
    expect(await bodyOf(store, KEY)).toHaveLength(1);
    await writer.close();
  });
});
