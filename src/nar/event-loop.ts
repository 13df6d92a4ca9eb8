type Schedule = (callback: () => void) => unknown;

/** `setImmediate` exists on Node and Workers and costs microseconds; a timer costs a millisecond. */
const schedule: Schedule =
  (globalThis as { setImmediate?: Schedule }).setImmediate ?? ((callback) => setTimeout(callback, 0));

/**
 * Lets everything else that waits run once: a resolved promise alone would not, since its
 * continuation runs before any timer or socket is looked at.
 */
export function yieldToEventLoop(): Promise<void> {
  return new Promise<void>((resolve) => {
    schedule(resolve);
  });
}
