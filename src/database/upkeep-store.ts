import type { NarRecord, NarSource, PathWithNar, Totals } from './metadata-store.ts';

/**
 * The part of the index that keeps it within its limits and in order: eviction, pins, bans, sweeps. Nothing of it is
 * on the way of an answer. It promises what `MetadataStore` promises: each method is one statement or one atomic batch
 * (where several, it says so), absent is `null`, faults are `MetadataError`s, every method may be retried.
 *
 * A NAR is *pushed* where no upstream is known to give it again: its record was made without a source, and
 * `markObtainable` has not been called. A path is pushed if its NAR is.
 */
export interface UpkeepStore {
  /**
   * NARs present, in the order in which they are to go (`eviction-order.ts`), with what keeps them. Those whose recorded
   * access is `accessedBefore` or later are left out.
   */
  listEvictable(page: EvictablePage): Promise<readonly Evictable[]>;

  /**
   * From present to evicting, each of these NARs whose generation and recorded access are still those seen, that no pin
   * keeps, and, if it is pushed, to which no other retained pushed path (present or evicting) refers. The generation
   * stays.
   *
   * @param options.regardless of pins and referrers
   * @param now milliseconds since the epoch: pins that have expired by then keep nothing
   * @returns those of these NARs that are evicting now at the generation seen: also what an attempt before has changed
   */
  markEvicting(
    seen: readonly SeenNar[],
    now: number,
    options?: { readonly regardless?: boolean },
  ): Promise<readonly EvictingNar[]>;

  /**
   * From evicting back to present, those of these that a pin or a retained pushed path keeps by now: a pin or a push
   * writes first and looks afterwards, as an eviction does, so that at least one of the two sees the other.
   *
   * @returns the keys of those that are present now at that generation
   */
  spareEvicting(nars: readonly NarAtGeneration[], now: number): Promise<readonly string[]>;

  /**
   * From evicting to absent, each of these whose generation is still the one given: their bodies are gone. Counters
   * follow. @returns the keys of those that are absent now at that generation
   */
  finishEvicting(nars: readonly NarAtGeneration[]): Promise<readonly string[]>;

  /** NARs in the state evicting by ascending id after `afterId`: what an eviction that died has left. */
  listEvicting(afterId: number, limit: number): Promise<readonly EvictingNar[]>;

  /**
   * An upstream has a path of this NAR with the same NarHash: it is not pushed any more.
   *
   * @param source where the upstream has the very same encoding; null where it has another one. Recorded if there is none
   */
  markObtainable(key: string, source: NarSource | null): Promise<void>;

  /** Records a pin, in place of one of the same name, with the closure of its path as far as it is known. */
  putPin(pin: NewPin): Promise<void>;

  /** Returns whether there was one. */
  deletePin(name: string): Promise<boolean>;

  /** By name. Those that have expired are listed too, until `refreshPins` removes them. */
  listPins(): Promise<readonly PinRecord[]>;

  /**
   * Adds to each pin what became known of its closure since, and removes the pins that have expired by `now`. One
   * batch for each pin.
   *
   * @returns the names of those that were removed
   */
  refreshPins(now: number): Promise<readonly string[]>;

  /** Of the NARs present that pins keep at `now`, each once. */
  pinnedTotals(now: number): Promise<Totals>;

  /**
   * What keeps a path, whether it is stored or not: a pin that has not expired by `now` covers it, or, if it is pushed,
   * another retained pushed path refers to it. Null for an unknown path too.
   */
  keeperOf(hash: string, now: number): Promise<Evictable['keptBy']>;

  /** Forgets a path and its edges to others; its NAR stays as it is. Returns whether the path was known. */
  removePath(hash: string): Promise<boolean>;

  /**
   * Forgets the path and refuses it from now on: `recordPath` and `replacePath` leave it out. Its NAR is quarantined
   * (counters follow) if no other path claims it.
   */
  banPath(ban: Ban): Promise<void>;

  /** Also lifts the quarantine of the NAR that the ban brought. Returns whether there was a ban. */
  unbanPath(hash: string): Promise<boolean>;

  /** By hash. */
  listBans(): Promise<readonly Ban[]>;

  /** Facts that outlive a run, by name: where a sweep goes on, that a rebuild is under way. */
  getMark(name: string): Promise<string | null>;

  /** Null removes it. */
  setMark(name: string, value: string | null): Promise<void>;

  /** All NARs by ascending id after `afterId`. */
  listNars(afterId: number, limit: number): Promise<readonly NarRecord[]>;

  /** Those of these keys that are known, in no order. */
  findNars(keys: readonly string[]): Promise<readonly NarRecord[]>;

  /** Those of these store-path hashes that are known as paths, in no order. */
  findPaths(hashes: readonly string[]): Promise<readonly PathWithNar[]>;

  /**
   * Pushed paths present by ascending id after `afterId`, where a reference of theirs is no path known here, or a pushed
   * one that is not stored.
   */
  listDangling(afterId: number, limit: number): Promise<readonly DanglingPath[]>;

  /** Sums what is present or evicting from its rows (a scan), and where `repair` is given, sets the counters to it. */
  recountTotals(options: {
    readonly repair: boolean;
  }): Promise<{ readonly counted: Totals; readonly actual: Totals }>;

  /** Number of paths; a scan of an index. */
  countPaths(): Promise<number>;

  /**
   * Forgets paths of a page by ascending id whose NAR is known or absent, that no pin covers, and that were neither
   * recorded nor used since `unusedSince`; with their edges. A read and a batch.
   */
  prunePaths(prune: {
    /** Milliseconds since the epoch. */
    readonly unusedSince: number;
    readonly afterId: number;
    readonly limit: number;
  }): Promise<PrunedPage>;

  /**
   * Forgets, of a page by ascending id, the NARs that are known or absent and that no path claims; or the nodes that are
   * no path, of no edge and of no pin. To be walked after paths were forgotten, NARs first. A read and a statement.
   */
  pruneOrphans(
    of: OrphanKind,
    page: { readonly afterId: number; readonly limit: number },
  ): Promise<PrunedPage>;
}

/** What is left where paths were forgotten. */
export type OrphanKind = 'nars' | 'nodes';

export interface PrunedPage {
  /** The last one of the page; null when there was nothing after the one before. */
  readonly lastId: number | null;
  readonly removed: number;
}

export interface EvictablePage {
  /** Those that only storage has, or those that an upstream can give again. */
  readonly pushed: boolean;
  /** The last one of the page before; null for the first page. */
  readonly after: { readonly rank: number; readonly id: number } | null;
  /** Milliseconds since the epoch, as recorded. */
  readonly accessedBefore: number;
  /** For pins that expire, milliseconds since the epoch. */
  readonly now: number;
  readonly limit: number;
}

export interface Evictable {
  readonly nar: NarRecord;
  /** Milliseconds, as `evictionRank`. */
  readonly rank: number;
  /** Recorded ones. */
  readonly accesses: number;
  /** A pin keeps it; a retained pushed path refers to it; or nothing. */
  readonly keptBy: 'pin' | 'referrer' | null;
}

export interface NarAtGeneration {
  readonly key: string;
  readonly generation: number;
}

export interface SeenNar extends NarAtGeneration {
  /** Milliseconds since the epoch, as recorded. */
  readonly lastAccess: number;
}

export interface EvictingNar extends NarAtGeneration {
  readonly id: number;
  /** Bytes. */
  readonly fileSize: number;
  /** Hash parts of the paths that claim it: their narinfos go first. */
  readonly hashes: readonly string[];
}

export interface NewPin {
  /** Letters, digits and `._-`; checked by the one who asks. */
  readonly name: string;
  /** The root: a full store path, and its hash part. */
  readonly storePath: string;
  readonly hash: string;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
  /** Milliseconds since the epoch; null: never. */
  readonly expiresAt: number | null;
}

export interface PinRecord extends NewPin {
  /** Paths of its closure as far as it is known, the root included. */
  readonly paths: number;
  /** Of these, those of which no narinfo is known. */
  readonly unknownPaths: number;
  /** Paths known whose NAR is not present: one that is evicting is on its way out. */
  readonly absentPaths: number;
  /** Bytes of its NARs that are present, each once. */
  readonly presentBytes: number;
}

export interface Ban {
  readonly hash: string;
  /** The full store path, where it was known; else only `<store dir>/<hash>`. */
  readonly storePath: string;
  readonly reason: string;
  /** Milliseconds since the epoch. */
  readonly at: number;
}

export interface DanglingPath {
  readonly id: number;
  readonly hash: string;
  readonly storePath: string;
  /** Hash part of one of the references that are missing. */
  readonly missing: string;
  /** How many are. */
  readonly missingCount: number;
}
