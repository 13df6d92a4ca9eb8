/**
 * The order in which bodies are evicted: by a rank in milliseconds, the lowest first. It is the time of the last
 * recorded access, moved towards the future for bodies that are used often and for those that free little: so one
 * indexed column holds the order, it costs no write of its own, and a one-off query for everything does not flush what
 * is used every day. Compared with plain LRU and with the optimum by `npm run bench:replay`; see ADR 0020.
 *
 * Logarithms are tables of steps, for every dialect of SQL to say the same.
 */

const DAY_MS = 24 * 60 * 60 * 1000;
const KIB = 1024;

/** What a body gains: milliseconds from so many on. */
export interface Step {
  readonly from: number;
  readonly bonusMs: number;
}

/** By recorded accesses (at most one an hour counts), a day for each doubling. Ascending. */
export const ACCESS_STEPS: readonly Step[] = Array.from({ length: 10 }, (_, doublings) => ({
  from: 2 ** (doublings + 1),
  bonusMs: DAY_MS * (doublings + 1),
}));

/**
 * By bytes of the body, a day and a half for each quarter below 4 MiB: what a small one frees is not worth its request.
 * Ascending; the first is for all smaller ones.
 */
export const SIZE_STEPS: readonly Step[] = [0, 64 * KIB, 256 * KIB, 1024 * KIB, 4096 * KIB].map(
  (from, step) => ({
    from,
    bonusMs: 1.5 * DAY_MS * (4 - step),
  }),
);

/** What a rank is made of. */
export interface Ranked {
  /** Milliseconds since the epoch. */
  readonly lastAccess: number;
  /** Recorded ones. */
  readonly accesses: number;
  /** Bytes. */
  readonly fileSize: number;
}

/** The rank of a body, in milliseconds: the lowest goes first. */
export function evictionRank({ lastAccess, accesses, fileSize }: Ranked): number {
  return lastAccess + bonusOf(ACCESS_STEPS, accesses) + bonusOf(SIZE_STEPS, fileSize);
}

function bonusOf(steps: readonly Step[], value: number): number {
  return steps.findLast(({ from }) => value >= from)?.bonusMs ?? 0;
}
