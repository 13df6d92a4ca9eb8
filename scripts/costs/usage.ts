import { REQUEST_COSTS, type RequestKind } from '../../test/support/request-costs.ts';
import type { Cost } from '../../test/support/cost-table.ts';

/** What nobody can measure but you: how people use the cache. Change it, and run `npm run docs:costs`. */
export const ASSUMED = {
  /** MB of a compressed NAR, on average. */
  narMb: 1,
  /** Narinfos that are found, for each NAR that is fetched: clients ask for more than they fetch. */
  narInfosFound: 1.5,
  /** Narinfos that nobody has, for each NAR that is fetched: what clients build themselves. */
  narInfosMissing: 0.5,
  /** The part of new NARs that is larger than one part of an upload, 8 MiB. */
  largeNars: 0.03,
  /** Bytes of an answer that is no NAR, with its headers. */
  smallAnswer: 2_000,
  /** Bytes of what the index says to one query, on the way from the database. */
  indexAnswer: 1_500,
  /** Milliseconds that Lambda takes, at 1 GB of memory; a fill is one NAR of average size. */
  lambdaMs: { narInfo: 15, narInfoCold: 80, redirect: 30, fill: 400, job: 400 },
} as const;

/**
 * Milliseconds of CPU on Workers, no more than: of workerd on a machine of ours, with the simulations of R2 and D1 in
 * the same process (`npm run bench -- --backend workerd`). Measured were 0.56 for a narinfo, 3.1 for a NAR of 0.33 MB
 * on average, and 14,300 for a cold closure of 334 paths and 111 MB; how the last two divide is an estimate.
 */
export const WORKER_CPU_MS = {
  narInfo: 0.6,
  narInfoCold: 5,
  nar: 2,
  narMb: 4,
  fill: 10,
  fillMb: 80,
  /** The hash of an xz body, in a job: 24 MB a second of what it unpacks to, which is four times as much. */
  jobMb: 170,
} as const;

/** Rows that D1 counts for an operation: `docs/d1.md`, and for locks in the database its own count. */
export const D1_ROWS: Readonly<Record<string, { readonly read: number; readonly written: number }>> = {
  getPath: { read: 3, written: 0 },
  recordPath: { read: 79, written: 50 },
  markPresent: { read: 6, written: 4 },
  getNar: { read: 4, written: 0 },
  touch: { read: 6, written: 2 },
  // Half of a take and a release.
  lock: { read: 1, written: 1.5 },
};

/** Bytes of the index for each path that was ever asked for: `docs/d1.md`. */
const INDEX_BYTES_PER_PATH = 2_080;
/** Paths that D1 is sound for: `docs/d1.md`. */
export const MOST_PATHS_IN_D1 = 3_500_000;
/** Of one part of an upload, as the settings have it. */
const PART_MB = 8.388608;

/** One who uses the cache. */
export interface Example {
  readonly name: string;
  /** GB in the store. */
  readonly storedGb: number;
  /** GB of NARs that clients fetch in a month. */
  readonly outGb: number;
  /** GB of NARs that are fetched for the first time in a month. */
  readonly newGb: number;
  /** The part of NARs whose access is written down: once an hour and NAR, so the less the busier. */
  readonly touched: number;
  /** Neon's compute units, on all month. */
  readonly neonCu: number;
  readonly rds: 'rdsMicro' | 'rdsMedium' | 'rdsLarge';
  readonly server: 'serverSmall' | 'serverMedium' | 'serverLarge';
}

export const EXAMPLES: readonly Example[] = [
  {
    name: 'A small team: 20 developers and CI',
    storedGb: 200,
    outGb: 2_000,
    newGb: 40,
    touched: 0.5,
    neonCu: 0.25,
    rds: 'rdsMicro',
    server: 'serverSmall',
  },
  {
    name: 'A company: 500 machines',
    storedGb: 2_000,
    outGb: 50_000,
    newGb: 400,
    touched: 0.2,
    neonCu: 0.5,
    rds: 'rdsMedium',
    server: 'serverMedium',
  },
  {
    name: '1 PB a month',
    storedGb: 20_000,
    outGb: 1_000_000,
    newGb: 4_000,
    touched: 0.05,
    neonCu: 4,
    rds: 'rdsLarge',
    server: 'serverLarge',
  },
];

/** How many requests of each kind. */
export type Requests = Readonly<Partial<Record<RequestKind, number>>>;

/** The requests of a month, NARs through Snowcap or redirected to the store. */
export function requestsOf({ outGb, newGb }: Example, delivery: 'proxy' | 'redirect'): Requests {
  const nars = (outGb * 1000) / ASSUMED.narMb;
  const fills = (newGb * 1000) / ASSUMED.narMb;
  const cold = fills * ASSUMED.narInfosFound;
  const [hit, fill] =
    delivery === 'proxy'
      ? (['NAR, stored, through us', 'NAR, cold, without a spool'] as const)
      : (['NAR, stored, redirected', 'NAR, cold, stored first and redirected to'] as const);
  return {
    'narinfo, known': nars * ASSUMED.narInfosFound - cold,
    'narinfo, cold': cold,
    'narinfo, unknown': nars * ASSUMED.narInfosMissing,
    [hit]: nars - fills,
    [fill]: fills,
  };
}

/** All operations of requests, by their names; `lock` for commands to the lock service. */
export interface Operations {
  readonly storage: Readonly<Record<string, number>>;
  readonly index: Readonly<Record<string, number>>;
  readonly locks: number;
}

/** The sum over requests of what law 11 asserts of one. */
export function operationsOf(requests: Requests): Operations {
  const storage: Record<string, number> = {};
  const index: Record<string, number> = {};
  let locks = 0;
  for (const [kind, count] of Object.entries(requests)) {
    const cost: Cost | undefined = Object.entries(REQUEST_COSTS).find(([name]) => name === kind)?.[1];
    if (cost === undefined) continue;
    for (const [name, each] of Object.entries(cost.storage)) {
      storage[name] = (storage[name] ?? 0) + each * count;
    }
    for (const [name, each] of Object.entries(cost.index)) index[name] = (index[name] ?? 0) + each * count;
    locks += cost.locks * count;
  }
  return { storage, index, locks };
}

/** Requests to the store that a large body takes beyond one put: parts, begin and end, and looks whether it is there. */
export function uploadsOf({ newGb }: Example): { readonly puts: number; readonly heads: number } {
  const large = ((newGb * 1000) / ASSUMED.narMb) * ASSUMED.largeNars;
  return { puts: (newGb * 1000) / PART_MB + large, heads: 2 * large };
}

/** GB of the index: of all paths that were ever asked for. */
export function indexGb(example: Example): number {
  return (pathsOf(example) * INDEX_BYTES_PER_PATH) / 1e9;
}

/** Paths in the index. */
export function pathsOf({ storedGb }: Example): number {
  return ((storedGb * 1000) / ASSUMED.narMb) * ASSUMED.narInfosFound;
}
