import { closureOf, named, type World, type WorldPath } from './world.ts';

/** What was last seen in the bucket. */
export interface Seen {
  /** Bytes of the NARs by key. */
  readonly nars: ReadonlyMap<string, number>;
  /** Hash parts. */
  readonly narInfos: ReadonlySet<string>;
}

export interface ModelPin {
  readonly root: string;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number | null;
  /** False where a crash left open whether it is there. */
  readonly certain: boolean;
}

/**
 * What somebody who uses the cache may rely on, and what allows for a body to be there or gone. Where a crash leaves
 * something open, it allows both.
 */
export class Model {
  readonly world: World;
  readonly evictPushedAfterMs: number | null;
  /** Obtainable paths that were answered at least once: they always will be. */
  readonly answered: Set<string> = new Set();
  /** Pushed closures that were taken, by name, with the earliest time at which they count as used: what must not be lost. */
  readonly pushed: Map<string, number> = new Map();
  /** Names of all that a push was begun of: the index may take them for pushed. */
  readonly perhapsPushed: Set<string> = new Set();
  /** Paths of which the index knows what they refer to. */
  readonly known: Set<string> = new Set();
  /** By the name of their root. */
  readonly pins: Map<string, ModelPin> = new Map();
  /** The latest time at which the index may believe that a path was used. */
  readonly usedAt: Map<string, number> = new Map();
  /** The latest time that there was: a pin that had expired then may be gone. */
  latest = 0;
  /** Whether a process died since index and bucket were last compared. */
  unsettled = false;
  seen: Seen = { nars: new Map(), narInfos: new Set() };

  constructor(world: World, evictPushedAfterMs: number | null) {
    this.world = world;
    this.evictPushedAfterMs = evictPushedAfterMs;
  }

  path(name: string): WorldPath {
    return named(this.world, name);
  }

  use(name: string, at: number): void {
    for (const [other, path] of this.world) {
      if (path.url === this.path(name).url) this.usedAt.set(other, Math.max(at, this.usedAt.get(other) ?? 0));
    }
  }

  isStored(name: string): boolean {
    return this.seen.nars.has(this.path(name).url);
  }

  /** Names of what pins keep for certain: closures as far as the index knows them. */
  pinned(): ReadonlySet<string> {
    const live = [...this.pins.values()].filter(
      ({ certain, expiresAt }) => certain && (expiresAt === null || expiresAt > this.latest),
    );
    const closures = live.map(({ root }) => closureOf(this.world, root, ({ name }) => this.known.has(name)));
    return union(closures).intersection(this.known);
  }

  /** Names of what pins may keep. */
  perhapsPinned(): ReadonlySet<string> {
    return union([...this.pins.values()].map(({ root }) => closureOf(this.world, root)));
  }

  /** Whether a pushed path may be evicted at `now`, as far as its age tells. */
  isOldEnough(name: string, now: number): boolean {
    const since = this.pushed.get(name) ?? 0;
    return this.evictPushedAfterMs !== null && now - since >= this.evictPushedAfterMs;
  }

  /** Whether this stays allowed although the bodies take more than they should, at `now`. */
  mayStay(name: string, now: number, graceMs: number): boolean {
    const path = this.path(name);
    const age = now - (this.usedAt.get(name) ?? 0);
    if (age <= graceMs || this.perhapsPinned().has(name)) return true;
    if (path.obtainable && !this.perhapsPushed.has(name)) return false;
    if (this.evictPushedAfterMs === null || age <= this.evictPushedAfterMs) return true;
    return [...this.world.values()].some(
      (other) => other.references.includes(name) && !other.obtainable && this.isStored(other.name),
    );
  }
}

function union(sets: readonly ReadonlySet<string>[]): ReadonlySet<string> {
  return new Set(sets.flatMap((set) => [...set]));
}
