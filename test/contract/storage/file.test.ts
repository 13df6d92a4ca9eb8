import {
  appendFile,
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { StorageError } from '../../../src/storage/blob-store.ts';
import type { BlobStore } from '../../../src/storage/blob-store.ts';
import { createFolders } from '../../../src/storage/file-folders.ts';
import { listObjects } from '../../../src/storage/file-list.ts';
import { createFileStore } from '../../../src/storage/file.ts';
import { recordSteps, runScript } from '../../support/checkpoint.ts';
import { bodyOf, bytesOf, found, keysOf, noise, openDescriptors, store as put, textOf } from './subject.ts';

let root = '';

beforeEach(async () => {
  root = await folder('snowcap-file-');
});

async function folder(prefix: string, parent: string = tmpdir()): Promise<string> {
  const path = await mkdtemp(join(parent, prefix));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

async function openStore(options: Partial<Parameters<typeof createFileStore>[0]> = {}): Promise<BlobStore> {
  const store = await createFileStore({ root, ...options });
  onTestFinished(() => store.close());
  return store;
}

describe('the layout on disk', () => {
  test('an object is a file at its key, as a plain Nix client reads it', async () => {
    const store = await openStore();
    await put(store, 'nix-cache-info', bytesOf('StoreDir: /nix/store\n'));
    await put(store, 'nar/x.nar', bytesOf('nar'));
    expect(await readFile(join(root, 'nix-cache-info'), 'utf8')).toBe('StoreDir: /nix/store\n');
    expect(await readFile(join(root, 'nar/x.nar'), 'utf8')).toBe('nar');
    expect((await readdir(root)).toSorted()).toEqual(['.snowcap', 'nar', 'nix-cache-info']);
  });

  test('nothing is made or removed where it is opened for reading', async () => {
    await mkdir(join(root, 'nar'));
    await writeFile(join(root, 'nar/x.nar'), 'nar');
    const store = await openStore({ readOnly: true });
    expect(await textOf(store, 'nar/x.nar')).toBe('nar');
    expect(await keysOf(store, '')).toEqual(['nar/x.nar']);
    await store.ping();
    await expect(put(store, 'nar/y.nar', bytesOf('nar'))).rejects.toThrow('opened for reading');
    await expect(store.delete(['nar/x.nar'])).rejects.toThrow(StorageError);
    expect(await store.sweep(Number.MAX_SAFE_INTEGER)).toEqual({ removed: 0, freed: 0 });
    expect(await readdir(root)).toEqual(['nar']);
    await expect(openStore({ readOnly: true, root: join(root, 'none') })).rejects.toThrow(StorageError);
  });

  test('modes are those of the umask', async () => {
    const before = process.umask(0o027);
    try {
      const store = await openStore();
      await put(store, 'nar/x.nar', bytesOf('nar'));
    } finally {
      process.umask(before);
    }
    expect((await stat(join(root, 'nar/x.nar'))).mode & 0o777).toBe(0o640);
    expect((await stat(join(root, 'nar'))).mode & 0o777).toBe(0o750);
  });

  test('a store that is closed leaves nothing but objects and empty folders', async () => {
    const store = await createFileStore({ root });
    await put(store, 'x', bytesOf('x'));
    await store.close();
    expect(await readdir(join(root, '.snowcap/tmp'))).toEqual([]);
  });

  test('folders removed by hand are made anew by the next put, the unfinished files of a writer too', async () => {
    const store = await openStore();
    await put(store, 'nar/a/x', bytesOf('x'));
    await rm(join(root, 'nar'), { recursive: true });
    await rm(join(root, '.snowcap'), { recursive: true });
    expect(await store.get('nar/a/x')).toBeNull();
    await put(store, 'nar/a/y', bytesOf('y'));
    expect(await textOf(store, 'nar/a/y')).toBe('y');
  });

  test('what lies in the root under a name that is no key is not listed', async () => {
    const store = await openStore();
    await put(store, 'x', bytesOf('x'));
    await writeFile(join(root, 'a b'), '');
    await writeFile(join(root, '.hidden'), '');
    await symlink('x', join(root, 'link'));
    expect(await keysOf(store, '')).toEqual(['x']);
  });

  test('a folder of many files is listed in order, whatever part of its names is held at once', async () => {
    const store = await openStore();
    const keys = Array.from(
      { length: 500 },
      (_, n) => `nar/${(n * 7919) % 500}${n % 9 === 0 ? '/x' : ''}`,
    ).toSorted();
    await Promise.all(keys.map((key) => put(store, key, bytesOf('x'))));
    const folders = createFolders(root, async () => undefined);
    for (const page of [1, 7, 250, 499, 500, 501]) {
      const listed: string[] = [];
      for await (const { key } of listObjects(folders, 'nar/', '', page)) listed.push(key);
      expect(listed).toEqual(keys);
    }
  });
});

describe('staying in the root', () => {
  test('a symbolic link in place of an object is an error, and is not followed', async () => {
    const store = await openStore();
    const outside = await folder('snowcap-outside-');
    await writeFile(join(outside, 'secret'), 'secret');
    await symlink(join(outside, 'secret'), join(root, 'x'));
    await expect(store.get('x')).rejects.toThrow(StorageError);
    await expect(store.head('x')).rejects.toThrow(StorageError);
    await put(store, 'x', bytesOf('new'));
    expect(await readFile(join(outside, 'secret'), 'utf8')).toBe('secret');
    expect(await textOf(store, 'x')).toBe('new');
  });

  test('a symbolic link in place of a folder is an error for every method, at any depth', async () => {
    const outside = await folder('snowcap-outside-');
    await writeFile(join(outside, 'x'), 'secret');
    await symlink(outside, join(root, 'nar'));
    const store = await openStore();
    for (const key of ['nar/x', 'nar/deep/x']) {
      await expect(put(store, key, bytesOf('x'))).rejects.toThrow(/symbolic link|ENOENT/);
      await expect(store.delete([key, 'nar/x'])).rejects.toThrow(StorageError);
    }
    await expect(store.get('nar/x')).rejects.toThrow('symbolic link');
    await expect(store.head('nar/x')).rejects.toThrow('symbolic link');
    await expect(keysOf(store, 'nar/')).rejects.toThrow('symbolic link');
    expect(await keysOf(store, '')).toEqual([]);
    expect(await readdir(outside)).toEqual(['x']);
  });

  test('the root itself may be reached through a link', async () => {
    const real = await folder('snowcap-real-');
    await symlink(real, join(root, 'link'));
    const store = await openStore({ root: join(root, 'link') });
    await put(store, 'nar/x', bytesOf('x'));
    expect(await readFile(join(real, 'nar/x'), 'utf8')).toBe('x');
    expect(await textOf(store, 'nar/x')).toBe('x');
  });
});

describe('faults of the disk', () => {
  test('a folder where an object should be is a StorageError, never absent', async () => {
    const store = await openStore();
    await mkdir(join(root, 'x'));
    await expect(store.get('x')).rejects.toThrow('Cannot read "x": not a regular file');
    await expect(store.head('x')).rejects.toThrow(StorageError);
    await expect(put(store, 'x', bytesOf('x'))).rejects.toThrow(/^Cannot store "x": E/);
    await expect(store.delete(['x'])).rejects.toThrow(StorageError);
    expect(await readdir(join(root, '.snowcap/tmp'), { recursive: true })).toHaveLength(1);
  });

  test('a file where a folder should be is a StorageError, never absent', async () => {
    const store = await openStore();
    await writeFile(join(root, 'nar'), '');
    await expect(store.get('nar/x')).rejects.toThrow(StorageError);
    await expect(store.head('nar/x')).rejects.toThrow(StorageError);
    await expect(put(store, 'nar/x', bytesOf('x'))).rejects.toThrow(StorageError);
    await expect(store.delete(['nar/x'])).rejects.toThrow(StorageError);
  });

  test('a file that may not be read is a StorageError, never absent', async () => {
    const store = await openStore();
    await put(store, 'x', bytesOf('x'));
    await chmod(join(root, 'x'), 0);
    // Root may read everything: be somebody else for a moment.
    if (process.getuid?.() === 0) {
      await chmod(root, 0o755);
      process.seteuid?.(65_534);
      onTestFinished(() => process.seteuid?.(0));
    }
    await expect(store.get('x')).rejects.toThrow('Cannot read "x": EACCES');
    await expect(put(store, 'y', bytesOf('y'))).rejects.toThrow(StorageError);
    process.seteuid?.(process.getuid?.() ?? 0);
  });

  test('a root that is a file is an error at start, one that vanished is an error of the ping', async () => {
    await writeFile(join(root, 'file'), '');
    await expect(createFileStore({ root: join(root, 'file') })).rejects.toThrow(StorageError);
    const store = await openStore({ root: join(root, 'new/deep') });
    await store.ping();
    await rm(join(root, 'new'), { recursive: true });
    await expect(store.ping()).rejects.toThrow(StorageError);
    await writeFile(join(root, 'new'), '');
    await expect(store.ping()).rejects.toThrow(StorageError);
  });

  test('a file that is shortened while it is read ends in an error, not in a short body', async () => {
    const store = await openStore();
    await put(store, 'x', noise(2_000_000));
    const before = openDescriptors();
    const { body } = await found(store, 'x');
    if (body.kind !== 'stream') throw new Error('Expected a stream');
    let read = 0;
    const all = async (): Promise<void> => {
      for await (const chunk of body.stream) {
        read += chunk.length;
        await truncate(join(root, 'x'), 700_000);
      }
    };
    await expect(all()).rejects.toThrow('Cannot read "x": the file was shortened while it was being read');
    expect(read).toBeLessThan(2_000_000);
    expect(openDescriptors()).toBe(before);
  });

  test('a file that grows while it is read gives the size that was announced', async () => {
    const store = await openStore();
    await put(store, 'x', noise(600_000));
    const blob = await found(store, 'x');
    await appendFile(join(root, 'x'), 'more');
    if (blob.body.kind !== 'stream') throw new Error('Expected a stream');
    let read = 0;
    for await (const chunk of blob.body.stream) read += chunk.length;
    expect(read).toBe(600_000);
  });

  test('a write that the disk refuses is a StorageError, leaves nothing, and the next one goes on', async () => {
    // The limit on the size of a file stands for a full disk: it needs no rights and no mount.
    const script = join(import.meta.dirname, 'limited-writer.ts');
    const { code, stdout, stderr } = await runScript(script, [root], { fileSizeLimit: 1024 });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const outcome = JSON.parse(stdout) as Readonly<Record<string, unknown>>;
    expect(outcome['put']).toMatch(/^Cannot store "big": EFBIG/);
    expect(outcome['append']).toMatch(/^Cannot append to spooled "nar\/big": EFBIG/);
    expect(outcome['again']).toMatch('broken');
    expect(outcome['source']).toMatch('broken');
    expect(outcome).toMatchObject({ absent: true, afterwards: 'written', written: 1024 * 1024 });
    expect(outcome['read']).toEqual(Array.from({ length: 10 }, () => 7));
    const left = await readdir(root, { recursive: true, withFileTypes: true });
    const files = left.filter((entry) => entry.isFile()).map((entry) => entry.name);
    expect(files.toSorted()).toEqual(['kept', 'small']);
  });
});

describe('files of another file system', () => {
  const other = '/dev/shm';

  async function foreign(skip: (reason: string) => void): Promise<string> {
    const [here, there] = [await stat(root), await stat(other).catch(() => null)];
    if (there === null || there.dev === here.dev) {
      if (process.env['CI'] === 'true') throw new Error(`${other} is no file system of its own here`);
      skip(`${other} is no file system of its own here`);
    }
    return folder('snowcap-other-', other);
  }

  test('a file is copied, made durable and then removed there', async ({ skip }) => {
    const elsewhere = await foreign(skip);
    const { steps, checkpoint } = recordSteps();
    const store = await openStore({ checkpoint });
    const bytes = noise(2_500_000);
    const path = join(elsewhere, 'body');
    await writeFile(path, bytes);
    await store.put('nar/x', { kind: 'file', path, size: bytes.length });
    expect(Buffer.compare((await bodyOf(store, 'nar/x')) ?? bytesOf(''), bytes)).toBe(0);
    expect(await readdir(elsewhere)).toEqual([]);
    expect(steps.slice(1)).toEqual([
      'file-store:sync',
      'file-store:rename',
      'file-store:open-temp',
      'file-store:write',
      'file-store:write',
      'file-store:write',
      'file-store:sync',
      'file-store:rename',
      'file-store:sync-directory',
      'file-store:remove-source',
    ]);
  });

  test('so it is where an existing object stays', async ({ skip }) => {
    const elsewhere = await foreign(skip);
    const store = await openStore();
    const path = join(elsewhere, 'body');
    for (const [written, text] of [
      [true, 'one'],
      [false, 'two'],
    ] as const) {
      await writeFile(path, text);
      const result = await store.put('x', { kind: 'file', path, size: 3 }, { ifAbsent: true });
      expect(result).toEqual({ written, size: 3 });
      expect(await readdir(elsewhere)).toEqual([]);
    }
    expect(await textOf(store, 'x')).toBe('one');
    expect(await readdir(join(root, '.snowcap/tmp'), { recursive: true })).toHaveLength(1);
  });
});

test('a file on the same file system is moved, not copied', async () => {
  const { steps, checkpoint } = recordSteps();
  const store = await openStore({ checkpoint });
  const path = join(root, '.body');
  await writeFile(path, 'body');
  const inode = (await stat(path)).ino;
  await store.put('x', { kind: 'file', path, size: 4 });
  expect((await stat(join(root, 'x'))).ino).toBe(inode);
  expect(steps).toEqual(['file-store:sync', 'file-store:rename', 'file-store:sync-directory']);
});
