/**
 * The index: what is known of store paths and of NARs. The bodies themselves are in the `BlobStore`.
 *
 * Two entities. A *path* is a store path with its signed facts; a *NAR* is one encoded body under one
 * storage key. Many paths may share one NAR: size, recency and eviction belong to the NAR.
 *
 * What every driver promises, and the contract suite checks:
 * - There are no interactive transactions: each method is one statement or one atomic batch (`touch` may be several).
 * - Absent is `null`. What goes wrong otherwise is thrown as `MetadataError`, also for a value that could not be
 *   read back as it was given (a size beyond 2^53, a reference that is no base name); every method may be retried.
 * - The first answer wins: rows are inserted if absent and read back, so what a method returns is
 *   what every instance sees.
 * - `present` is only ever a hint about storage (a crash or a hand may have removed the object).
 *   Changes of state are compare-and-set on `generation`, which only grows.
 */
export interface MetadataStore {
  /** For logs and `/readyz`, without any secret, as `sqlite:/var/lib/snowcap/index.db`. */
  readonly description: string;

  /** A path and its NAR by the hash part of the store path. Exactly one query (law 11). */
  getPath(hash: string): Promise<PathWithNar | null>;

  /**
   * A NAR by its key, with the paths that claim it (in the order in which they were recorded, at most
   * `limit`, default 16). Null if the key is unknown.
   */
  getNar(key: string, limit?: number): Promise<NarWithPaths | null>;

  /**
   * Records a path and its NAR, each only if it is absent, with the edges to its references (stubs
   * for paths not known yet, no self-reference).
   *
   * @returns what is stored now, which is another's record where that came first
   * @throws BannedPathError, and records no path, where it is banned (`UpkeepStore.banPath`). Its NAR may have been
   * recorded: like any that no path claims, it is forgotten by `UpkeepStore.pruneOrphans`
   */
  recordPath(path: NewPath, nar: NewNar): Promise<PathWithNar>;

  /**
   * Replaces what is known of a path (the key that justified it is no longer trusted, or its NAR was
   * quarantined), if the stored path is still at `revision`. The NAR is recorded if absent. A path that is not there
   * at all is recorded, whatever the revision.
   *
   * @returns what is stored now, whoever wrote it
   * @throws BannedPathError as `recordPath`
   */
  replacePath(path: NewPath, nar: NewNar, revision: number): Promise<PathWithNar>;

  /** Replaces signatures and justification only, if the path is still at `revision`. Returns whether it was. */
  rejustifyPath(
    hash: string,
    revision: number,
    change: { readonly signatures: readonly string[]; readonly justification: Justification },
  ): Promise<boolean>;

  /**
   * The NAR's body is in storage, whole and verified: sets its file hash, size and verification, state
   * `present`, generation + 1, and the size counters in the same batch. Idempotent but for the generation.
   * Clears a quarantine never: a quarantined NAR stays so, and the result is null, as for an unknown key.
   *
   * @param stored.at milliseconds since the epoch: counts as an access, and is written even within the hour
   * @returns the new generation
   */
  markPresent(key: string, stored: StoredNar): Promise<number | null>;

  /**
   * The NAR's body is gone from storage: from `present` or `evicting` to `absent`, if its generation is still
   * the one given. Counters follow. What was known of the body (file hash, size, verification) and the generation
   * stay. Returns whether the change was made.
   */
  markAbsent(key: string, generation: number): Promise<boolean>;

  /**
   * The NAR's body was proven wrong: it is never stored or served again under this key. Generation + 1; counters
   * follow. A second quarantine and an unknown key change nothing.
   */
  markQuarantined(key: string, reason: string): Promise<void>;

  /**
   * NarHash of the stored body was checked, if the NAR is present or evicting and its generation is still the one
   * given. Returns whether it was recorded.
   */
  markVerified(key: string, generation: number): Promise<boolean>;

  /** NARs present whose NarHash was not checked yet, by ascending id after `afterId`. */
  listUnverified(afterId: number, limit: number): Promise<readonly NarRecord[]>;

  /** Paths by ascending id after `afterId`: for sweeps over the whole index in small pages. */
  listPaths(afterId: number, limit: number): Promise<readonly PathWithNar[]>;

  /**
   * Records accesses. A row is written only if its recorded access is more than an hour older (law 11); of several
   * accesses to one NAR the latest counts. A failure may leave some of them recorded.
   *
   * @param accesses unknown keys are passed over; any number
   */
  touch(accesses: readonly NarAccess[]): Promise<void>;

  /** Hashes of the paths that this one refers to, known or not, without itself, in no order; empty for an unknown path. */
  references(hash: string): Promise<readonly string[]>;

  /** The closure over the edges from these roots, roots included, by store-path hash, unknown ones too; each once, in no order. */
  closure(hashes: readonly string[]): Promise<readonly string[]>;

  /** From the size counters; not a scan. */
  totals(): Promise<Totals>;

  /** Cheap proof that the index can be read. @throws MetadataError */
  ping(): Promise<void>;

  close(): Promise<void>;
}

/** Why a path may be served: what its signed facts were checked against. */
export type Justification =
  /** A signature by this trusted key, as `name:base64 of the public key`. */
  | { readonly kind: 'key'; readonly publicKey: string }
  /** The store path follows from its content address. */
  | { readonly kind: 'content-address' }
  /** This upstream (by its base URL) was explicitly allowed to give unsigned paths. */
  | { readonly kind: 'unsigned-upstream'; readonly upstream: string }
  /** Pushed here by an authorised client. */
  | { readonly kind: 'pushed' };

/** The signed facts of a store path. */
export interface NewPath {
  /** Hash part of the store path: 32 characters of nix32. */
  readonly hash: string;
  /** The full store path, as `/nix/store/<hash>-<name>`. */
  readonly storePath: string;
  /** `sha256:<nix32>` */
  readonly narHash: string;
  /** Bytes, uncompressed. */
  readonly narSize: number;
  /** Base names (`<hash>-<name>`) of the references in narinfo order, a self-reference included. */
  readonly references: readonly string[];
  readonly deriver: string | null;
  /** The content address, as `fixed:r:sha256:…`. */
  readonly ca: string | null;
  /** `name:base64` each: the upstream's first, then our own. */
  readonly signatures: readonly string[];
  /** Fields of the narinfo that this version does not know, in order. */
  readonly extra: readonly (readonly [name: string, value: string])[];
  readonly justification: Justification;
  /** Base URL of the upstream that gave it (without credentials); null for a pushed or adopted path. */
  readonly origin: string | null;
  /** Milliseconds since the epoch. */
  readonly recordedAt: number;
}

export interface PathRecord extends NewPath {
  readonly id: number;
  /** Storage key of its NAR. */
  readonly narKey: string;
  /** Grows with each change of the row. */
  readonly revision: number;
}

/** What is known of a NAR before its body was fetched. */
export interface NewNar {
  /** Storage key, and the `URL` of the narinfos that claim it: `nar/…`. */
  readonly key: string;
  /** `none`, `xz`, `zstd`, `br`, `bzip2`, `gzip`. */
  readonly compression: string;
  /** `sha256:<nix32>` of the encoded body; null where the upstream did not tell. */
  readonly fileHash: string | null;
  /** Bytes of the encoded body; null where the upstream did not tell. */
  readonly fileSize: number | null;
  /** Where the body comes from; null for a pushed or adopted one. */
  readonly source: NarSource | null;
}

export interface NarSource {
  /** Base URL of the upstream, without credentials. */
  readonly upstream: string;
  /** The upstream's own `URL`, with its query, relative to its base. */
  readonly url: string;
}

export type NarState = 'known' | 'present' | 'evicting' | 'absent' | 'quarantined';

/** What was checked of the stored body: nothing yet, FileHash and size, or NarHash too. */
export type Verification = 'none' | 'file' | 'nar';

export interface NarRecord extends NewNar {
  readonly id: number;
  readonly state: NarState;
  readonly verification: Verification;
  readonly generation: number;
  /** Of the access that was written last, in milliseconds since the epoch: there may be later ones within the hour. 0 before the first. */
  readonly lastAccess: number;
}

export interface PathWithNar {
  readonly path: PathRecord;
  readonly nar: NarRecord;
}

/** As many paths as ever share one NAR in practice (empty files and directories of many packages). */
export const ALL_PATHS_OF_NAR: number = 10_000;

export interface NarWithPaths {
  readonly nar: NarRecord;
  readonly paths: readonly PathRecord[];
}

export interface StoredNar {
  /** `sha256:<nix32>` */
  readonly fileHash: string;
  /** Bytes. */
  readonly fileSize: number;
  readonly verification: Verification;
  readonly at: number;
}

export interface NarAccess {
  readonly key: string;
  /** Milliseconds since the epoch. */
  readonly at: number;
}

export interface Totals {
  /** Sum of the file sizes of the NARs present or evicting. */
  readonly presentBytes: number;
  readonly presentNars: number;
}

/** An index that could not do what was asked. The message names the operation. */
export class MetadataError extends Error {
  override readonly name: string = 'MetadataError';
}

/** The path is not to come back. */
export class BannedPathError extends MetadataError {
  override readonly name = 'BannedPathError';
}
