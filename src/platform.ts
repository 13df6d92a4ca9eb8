import type { Logger } from './telemetry/logger.ts';
import type { Metrics } from './telemetry/metrics.ts';
import type { Tracer } from './telemetry/tracing.ts';

/** Wall-clock time and timers. Tests bring their own, so that none of them sleeps. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Resolves after `milliseconds`; rejects with the signal's reason when that is aborted first. */
  sleep(milliseconds: number, signal?: AbortSignal): Promise<void>;
}

/** The last part of a patient wait, in milliseconds. */
export const LAST_PATIENCE_MS: number = 25;

/**
 * A wait for an answer, after which it is late. In two parts: a process that was busy finds its timers due before it has
 * read its connections, and would take its own lateness for another's. Between the two it reads them.
 *
 * @returns after `milliseconds`; rejects with the signal's reason when that is aborted first
 */
export async function patience(clock: Clock, milliseconds: number, signal: AbortSignal): Promise<void> {
  const last = Math.min(LAST_PATIENCE_MS, milliseconds);
  await clock.sleep(milliseconds - last, signal);
  await clock.sleep(last, signal);
}

/** What the core needs of the runtime that it happens to run on. */
export interface Platform {
  readonly clock: Clock;
  /** A number in [0, 1), for jitter. Never for secrets. */
  random(): number;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Begins the spans of requests; absent where tracing is off. */
  readonly tracer?: Tracer;
  /**
   * Short work that goes on after the answer: `waitUntil` on Workers, a set drained at shutdown on
   * Node, awaited on Lambda. A rejection is logged with `what`; it never reaches a client.
   */
  defer(what: string, work: Promise<unknown>): void;
  /**
   * Whether a fill may outlive every client that waits for it (true where the process lives on).
   * Where it is false, a fill whose last client leaves is dropped.
   */
  readonly fillsOutliveClients: boolean;
  /**
   * Hands over long work that no client waits for: a message of a Queue on Workers, an asynchronous invocation of
   * itself on Lambda. Resolves when it was taken, which does not say that it will succeed. Absent where the process
   * lives on and does such work itself, and where nothing takes it: such work is then declined.
   */
  readonly schedule?: (job: BackgroundJob) => Promise<void>;
  /**
   * Called with the name of a write step just before it is taken. Absent in production; tests
   * kill the process there.
   */
  readonly checkpoint?: (step: string) => void | Promise<void>;
}

/** Long work for which no client waits. Done twice, or never, it does no harm. */
export type BackgroundJob =
  /** Download and store the NAR of this key. */
  | { readonly kind: 'fill'; readonly key: string }
  /** Check the NarHash of the stored NAR of this key. */
  | { readonly kind: 'verify'; readonly key: string }
  /** Download and store what is missing of the closure of the pin of this name. */
  | { readonly kind: 'fetch-pin'; readonly key: string }
  /** Bring the stored bodies down to their low-water mark, if they are above their limit. */
  | { readonly kind: 'evict' };

/** What a job is about, for logs; null for one that is about everything. */
export function keyOfJob(job: BackgroundJob): string | null {
  return 'key' in job ? job.key : null;
}
