import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';

/** A directory or file of the machine that becomes the contents of a store path. */
export interface Tree {
  readonly path: string;
  /** Bytes of its files. */
  readonly size: number;
}

const KIB = 1024;
const MIB = 1024 * KIB;

/**
 * How many trees of which size: most NARs are small and most bytes are in a few, as in the closure of a
 * system. The largest ones of the machine are added where a class has too few.
 */
const CLASSES = [
  { from: 1 * KIB, to: 64 * KIB, count: 190 },
  { from: 64 * KIB, to: 1 * MIB, count: 100 },
  { from: 1 * MIB, to: 8 * MIB, count: 36 },
  { from: 8 * MIB, to: 60 * MIB, count: 8 },
] as const;

const ROOTS = ['/usr/share', '/usr/lib', '/usr/include', '/usr/bin', '/usr/sbin'];
const DEPTH = 4;

/** Trees of this machine, the same ones as long as its files are the same. @throws Error where there are too few */
export async function chooseTrees(): Promise<readonly Tree[]> {
  const found: Tree[] = [];
  for (const root of ROOTS) await measure(root, DEPTH, found);
  const chosen = CLASSES.flatMap(({ from, to, count }) => {
    const fitting = found
      .filter(({ size }) => size >= from && size < to)
      .toSorted((a, b) => (a.path < b.path ? -1 : 1));
    const step = Math.max(1, fitting.length / count);
    return Array.from(
      { length: Math.min(count, fitting.length) },
      (_, index) => fitting[Math.floor(index * step)],
    );
  }).filter((tree) => tree !== undefined);
  if (chosen.length < 300)
    throw new Error(`Cannot find 300 trees below ${ROOTS.join(', ')}: ${chosen.length}`);
  return chosen;
}

/** Adds the trees below `path` to `found`, itself last; its size, or null where it has what a store path cannot hold. */
async function measure(path: string, depth: number, found: Tree[]): Promise<number | null> {
  const info = await lstat(path).catch(() => null);
  if (info === null) return null;
  if (info.isSymbolicLink()) return 0;
  if (info.isFile()) {
    if (depth > 0 && info.size > 0) found.push({ path, size: info.size });
    return info.size;
  }
  if (!info.isDirectory()) return null;
  const names = await readdir(path).catch(() => null);
  if (names === null) return null;
  let size = 0;
  let whole = true;
  for (const name of names.toSorted()) {
    const part = await measure(join(path, name), depth - 1, found);
    if (part === null) whole = false;
    else size += part;
  }
  if (!whole) return null;
  if (depth > 0) found.push({ path, size });
  return size;
}
