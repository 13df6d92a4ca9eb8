import type { Totals } from '../../database/metadata-store.ts';

/** How an eviction ended. */
export type EvictionOutcome =
  /** The bodies were within their limit: none had to go. */
  | 'within_limit'
  /** The low-water mark is reached. */
  | 'reached'
  /** All has gone that may go, and the low-water mark is not reached: `kept` says why. */
  | 'kept'
  /** It was stopped, or its time is over. The next run goes on. */
  | 'out_of_time'
  /** The storage deletes nothing now. */
  | 'storage_fault'
  /** Somebody else evicts: nothing was done here. */
  | 'another_runs'
  /** The index is being rebuilt from the bucket: before it is complete nothing can be judged. */
  | 'rebuilding';

/** A number of bodies and their bytes. */
export interface Tally {
  readonly nars: number;
  readonly bytes: number;
}

/** `obtainable`: an upstream can give it again. `pushed`: only storage had it. `resumed`: a run before had begun with it. */
export type EvictedKind = 'obtainable' | 'pushed' | 'resumed';

/** Why a body that was next in the order did not go. */
export type PassedOver =
  /** It is in the closure of a pin. */
  | 'pinned'
  /** A pushed path that stays refers to it. */
  | 'referred'
  /** This process reads or fills it. */
  | 'in_use'
  /** Between the look and the removal it was used, pinned, pushed or filled. */
  | 'lost'
  /** The storage did not delete it, or a narinfo of it. It stays `evicting`, for the next run. */
  | 'fault';

/** What keeps bodies although they are too many, in bytes. A body is counted where it is named first. */
export interface KeptBytes {
  readonly pinned: number;
  /** Of what this process reads or fills. */
  readonly inUse: number;
  /** Of what was stored or used in the last minutes, and an upstream could give again. */
  readonly recent: number;
  /** Of what was pushed, and is not to go yet or is referred to. */
  readonly pushed: number;
}

/** What an eviction did; of a dry run, what it would do. */
export interface EvictionReport {
  readonly outcome: EvictionOutcome;
  readonly dryRun: boolean;
  /** Bytes that the stored bodies may take. */
  readonly limit: number;
  /** Bytes of the low-water mark. */
  readonly target: number;
  readonly before: Totals;
  readonly after: Totals;
  readonly freed: Readonly<Record<EvictedKind, Tally>>;
  readonly passedOver: Readonly<Record<PassedOver, Tally>>;
  /** Where the low-water mark was not reached although everything was looked at; else null. */
  readonly kept: KeptBytes | null;
  /** Names of pins that had expired: they are removed. */
  readonly expiredPins: readonly string[];
  /** Paths that were forgotten. */
  readonly prunedPaths: number;
}

/** A body that was looked at. */
export interface EvictionCandidate {
  readonly key: string;
  /** Bytes. */
  readonly size: number;
  /** Recorded, in milliseconds since the epoch. */
  readonly lastAccess: number;
  /** Recorded ones. */
  readonly accesses: number;
  readonly pushed: boolean;
  /** What becomes of it: `goes` where nothing keeps it. */
  readonly verdict: 'goes' | 'pinned' | 'referred' | 'in_use';
}

export interface EvictOptions {
  /** Ends the run after the batch under way. */
  readonly signal?: AbortSignal;
  /** Milliseconds after which the run ends. @default none */
  readonly budgetMs?: number;
  /** Changes nothing. Pushed paths that could go only after their referrers count as staying. */
  readonly dryRun?: boolean;
  /** Told of each body that is looked at, in their order; of one that stays perhaps again. */
  readonly onCandidate?: (candidate: EvictionCandidate) => void;
}

/** A tally that grows. */
export interface GrowingTally {
  nars: number;
  bytes: number;
}

export type Growing<Name extends string> = Record<Name, GrowingTally>;

export function noneFreed(): Growing<EvictedKind> {
  return { obtainable: none(), pushed: none(), resumed: none() };
}

export function nonePassedOver(): Growing<PassedOver> {
  return { pinned: none(), referred: none(), in_use: none(), lost: none(), fault: none() };
}

export function add(tally: GrowingTally, bytes: number): void {
  tally.nars += 1;
  tally.bytes += bytes;
}

export function take(tally: GrowingTally, bytes: number): void {
  tally.nars -= 1;
  tally.bytes -= bytes;
}

function none(): GrowingTally {
  return { nars: 0, bytes: 0 };
}
