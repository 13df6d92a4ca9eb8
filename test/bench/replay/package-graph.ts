import { readFileSync } from 'node:fs';

/** A package with what it needs: as a store path with its references. */
export interface Package {
  /** Without a version. */
  readonly name: string;
  /** Bytes of its archive, compressed with xz as a NAR is. */
  readonly size: number;
  readonly dependencies: readonly number[];
}

const FILE = new URL('../../fixtures/packages/debian-12.txt', import.meta.url);

/** The packages of `scripts/write-package-graph.ts`; dependencies are places in this list, and may be circular. */
export function readPackages(): readonly Package[] {
  return readFileSync(FILE, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => {
      const [name = '', size, ...dependencies] = line.split(' ');
      return { name, size: Number(size), dependencies: dependencies.map(Number) };
    });
}

/** All that these packages need, themselves too, each after one that needs it. */
export function closureOf(packages: readonly Package[], roots: Iterable<number>): readonly number[] {
  const found = new Set(roots);
  for (const number of found) for (const needed of packages[number]?.dependencies ?? []) found.add(needed);
  return [...found];
}

/** By package, all that need it, itself too. */
export function dependantsOf(packages: readonly Package[]): readonly (readonly number[])[] {
  const direct = packages.map((): number[] => []);
  for (const [number, { dependencies }] of packages.entries()) {
    for (const needed of dependencies) direct[needed]?.push(number);
  }
  return packages.map((_, number) => {
    const found = new Set([number]);
    for (const one of found) for (const dependant of direct[one] ?? []) found.add(dependant);
    return [...found];
  });
}
