import type { Clock } from '../../platform.ts';

/**
 * Lets so many bytes a second through, on the average.
 *
 * @param bytesPerSecond null: any number
 * @returns waits until so many bytes may be read
 */
export function createPace(
  clock: Clock,
  bytesPerSecond: number | null,
  signal?: AbortSignal,
): (bytes: number) => Promise<void> {
  if (bytesPerSecond === null) return () => Promise.resolve();
  /** When what was let through will have passed, in milliseconds since the epoch. */
  let free = 0;
  return async (bytes) => {
    const now = clock.now();
    const begin = Math.max(free, now);
    free = begin + (bytes / bytesPerSecond) * 1000;
    if (begin > now) await clock.sleep(begin - now, signal);
  };
}
