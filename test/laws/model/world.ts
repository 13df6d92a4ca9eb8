import type { FaultServer } from '../../support/fault-server.ts';
import {
  noise,
  narOfFile,
  publish,
  type SignedPath,
  type SignedPathOptions,
  signedPath,
} from '../../support/signed-path.ts';

/** Bytes that the stored bodies may take: a seventh of what there is. */
export const LIMIT = 36_000;

/** A path of the world, before it is made. References are names. */
interface Sketch extends Pick<SignedPathOptions, 'size' | 'compression' | 'prose' | 'nar'> {
  readonly references?: readonly string[];
}

const TWIN = narOfFile(noise(9000, 77));

/** What the upstream has. */
const OBTAINABLE: Readonly<Record<string, Sketch>> = {
  leaf: { size: 4000 },
  library: { size: 24_000, references: ['leaf'] },
  program: { size: 31_000, references: ['library', 'leaf'] },
  compressed: { size: 60_000, compression: 'zstd', prose: true, references: ['library'] },
  later: { size: 40_000, compression: 'xz', prose: true },
  // Two paths, one NAR.
  twin: { nar: TWIN },
  'other-twin': { nar: TWIN },
  'too-large': { size: LIMIT + 1000, references: ['twin'] },
  // A build that is pushed as well.
  both: { size: 12_000, references: ['leaf'] },
};

/** What is pushed. Each refers to earlier ones. */
const PUSHED: Readonly<Record<string, Sketch>> = {
  'own-base': { size: 15_000, references: ['leaf'] },
  'own-tool': { size: 8000, references: ['own-base', 'both'] },
  'own-docs': { size: 22_000, references: ['own-base'], compression: 'xz', prose: true },
  'own-system': { size: 5000, references: ['own-tool', 'own-docs', 'program'] },
  'own-other': { size: 30_000 },
};

export interface WorldPath extends SignedPath {
  readonly name: string;
  /** Names. */
  readonly references: readonly string[];
  /** Whether the upstream has it. */
  readonly obtainable: boolean;
}

/** Paths by name, each after those that it refers to. */
export type World = ReadonlyMap<string, WorldPath>;

export const OBTAINABLE_NAMES: readonly string[] = Object.keys(OBTAINABLE);
/** What may be pushed; what it refers to is pushed with it, where it is one of these. */
export const PUSHED_NAMES: readonly string[] = [...Object.keys(PUSHED), 'both'];

/** Makes the paths; the upstream has its own. */
export async function makeWorld(upstream: FaultServer): Promise<World> {
  const world = new Map<string, WorldPath>();
  let seed = 0;
  for (const [name, { references = [], ...sketch }] of Object.entries({ ...OBTAINABLE, ...PUSHED })) {
    seed += 1;
    const baseNames = references.map((reference) => baseName(named(world, reference)));
    const path = await signedPath({ ...sketch, name, seed, references: baseNames });
    const obtainable = name in OBTAINABLE;
    if (obtainable) publish(upstream, path);
    world.set(name, { ...path, name, references, obtainable });
  }
  return world;
}

/** @throws Error where there is none of this name */
export function named(world: World, name: string): WorldPath {
  const path = world.get(name);
  if (path === undefined) throw new Error(`The world has no path ${JSON.stringify(name)}`);
  return path;
}

/** The names of all that `root` needs, as far as `follows` says so of a path; itself too. */
export function closureOf(
  world: World,
  root: string,
  follows: (path: WorldPath) => boolean = () => true,
): ReadonlySet<string> {
  const found = new Set([root]);
  for (const name of found) {
    const path = named(world, name);
    if (follows(path)) for (const reference of path.references) found.add(reference);
  }
  return found;
}

function baseName({ storePath }: SignedPath): string {
  return storePath.slice(storePath.lastIndexOf('/') + 1);
}
