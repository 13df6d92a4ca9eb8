import type { Clock } from '../platform.ts';

/** Measures from a moment on. */
export interface Stopwatch {
  /** Milliseconds since it was started. */
  elapsed(): number;
}

/**
 * Starts a stopwatch that goes by two clocks, whichever says more: the monotonic one may stand still while the machine
 * sleeps, and the clock of the wall may be set back. So a jump of either can end a lease early, but never extend it.
 */
export function startStopwatch(clock: Pick<Clock, 'now'>, monotonic: () => number): Stopwatch {
  const wallStart = clock.now();
  const start = monotonic();
  return { elapsed: () => Math.max(clock.now() - wallStart, monotonic() - start) };
}
