import { createHash } from 'node:crypto';
import { cp, mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { checkedCommand } from '../support/nix-command.ts';
import { createNixStore } from '../support/nix-store.ts';
import type { NixStore } from '../support/nix-store.ts';
import { KEPT_DIRECTORY, say } from './places.ts';
import { chooseTrees } from './trees.ts';

export const COMPRESSIONS = ['none', 'zstd', 'xz'] as const;
export type Compression = (typeof COMPRESSIONS)[number];

/** A binary cache in a directory, made by Nix, with one root whose closure is all of it. */
export interface BenchCache {
  readonly directory: string;
  /** The store path that refers to all others, at some distance. */
  readonly root: string;
  readonly publicKey: string;
  /** `/<hash>.narinfo` of each path. */
  readonly narInfoPaths: readonly string[];
  /** `/nar/…` of each path, in the same order. */
  readonly narPaths: readonly string[];
  /** Bytes of all encoded NARs. */
  readonly narBytes: number;
}

/** The cache, made by the first run on this machine (about a minute) and kept. */
export async function openBenchCache(compression: Compression): Promise<BenchCache> {
  const directory = join(KEPT_DIRECTORY, `cache-${compression}`);
  const root = await makeStore();
  const secretKeyFile = join(KEPT_DIRECTORY, 'secret-key');
  const made = await readdir(directory).catch(() => null);
  if (made === null) {
    say(`making the ${compression} cache in ${directory}`);
    const store = await openStore();
    const partial = `${directory}.partial`;
    await rm(partial, { recursive: true, force: true });
    await checkedCommand(
      'nix',
      ['copy', '--to', `file://${partial}?compression=${compression}&secret-key=${secretKeyFile}`, root],
      { env: store.environment(), timeoutMs: 1_800_000 },
    );
    await rename(partial, directory);
  }
  const publicKey = await readFile(join(KEPT_DIRECTORY, 'public-key'), 'utf8');
  return { directory, root, publicKey, ...(await readNarInfos(directory)) };
}

function openStore(): Promise<NixStore> {
  return createNixStore(join(KEPT_DIRECTORY, 'store'));
}

/** A store with the trees of the machine as paths, that refer to each other. @returns its root path */
async function makeStore(): Promise<string> {
  const rootFile = join(KEPT_DIRECTORY, 'root');
  const made = await readFile(rootFile, 'utf8').catch(() => null);
  if (made !== null) return made;
  say(`making the closure in ${KEPT_DIRECTORY}`);
  await rm(KEPT_DIRECTORY, { recursive: true, force: true });
  await mkdir(join(KEPT_DIRECTORY, 'store'), { recursive: true });
  const store = await openStore();
  // In the order of their hashes, so that small and large ones are mixed at every depth.
  const trees = (await chooseTrees())
    .map(({ path }) => ({ from: path, path: storePathOf(path) }))
    .toSorted((a, b) => (a.path < b.path ? -1 : 1));
  const paths = trees.map(({ path }) => path);
  const records: string[] = [];
  await mkdir(join(store.directory, 'root/nix/store'), { recursive: true });
  for (const [index, { from, path }] of trees.entries()) {
    await cp(from, store.fileOf(path), { recursive: true, verbatimSymlinks: true });
    const { sha256, size } = await store.dumpDigest(path);
    const references = referencesOf(index, paths);
    records.push([path, sha256, size, '', references.length, ...references].join('\n'));
  }
  await loadDatabase(store, `${records.join('\n')}\n`);
  const key = await store.check('nix', ['key', 'generate-secret', '--key-name', 'bench-1']);
  await writeFile(join(KEPT_DIRECTORY, 'secret-key'), key, { mode: 0o600 });
  const publicKey = await checkedCommand(
    'sh',
    ['-c', `nix key convert-secret-to-public < ${join(KEPT_DIRECTORY, 'secret-key')}`],
    { env: store.environment() },
  );
  await writeFile(join(KEPT_DIRECTORY, 'public-key'), publicKey.trim());
  const root = paths.at(-1) ?? '';
  await writeFile(rootFile, root);
  return root;
}

/** Registers paths that lie in the store already, with hashes that Nix itself computed. */
async function loadDatabase(store: NixStore, records: string): Promise<void> {
  const file = join(store.directory, 'registration');
  await writeFile(file, records);
  await checkedCommand('sh', ['-c', `nix-store --load-db < ${file}`], { env: store.environment() });
}

const NIX32 = '0123456789abcdfghijklmnpqrsvwxyz';

/** A store path for a tree: any 32 characters of the alphabet will do, as the path is not content-addressed. */
function storePathOf(tree: string): string {
  const digest = createHash('sha256').update(tree).digest();
  const hash = Array.from(digest, (byte) => NIX32[byte % 32]).join('');
  const name = basename(tree)
    .replaceAll(/[^0-9A-Za-z+._-]/g, '-')
    .replace(/^\.+/, '');
  return `/nix/store/${hash}-${name === '' ? 'tree' : name.slice(0, 100)}`;
}

/**
 * Each path is referred to by one about half as far down the list, and by some others: the depth is that of
 * a real closure (about ten), and the last path reaches all.
 */
function referencesOf(index: number, paths: readonly string[]): readonly string[] {
  const fromTop = paths.length - 1 - index;
  const below = [2 * fromTop + 1, 2 * fromTop + 2, 3 * fromTop + 7, 5 * fromTop + 11].map(
    (position) => paths[paths.length - 1 - position],
  );
  return [...new Set(below.filter((path) => path !== undefined))].toSorted();
}

async function readNarInfos(
  directory: string,
): Promise<{ narInfoPaths: string[]; narPaths: string[]; narBytes: number }> {
  const names = (await readdir(directory)).filter((name) => name.endsWith('.narinfo')).toSorted();
  let narBytes = 0;
  const narPaths: string[] = [];
  for (const name of names) {
    const text = await readFile(join(directory, name), 'utf8');
    const field = (key: string): string => new RegExp(`^${key}: (.*)$`, 'm').exec(text)?.[1] ?? '';
    narPaths.push(`/${field('URL')}`);
    narBytes += Number(field('FileSize'));
  }
  return { narInfoPaths: names.map((name) => `/${name}`), narPaths, narBytes };
}
