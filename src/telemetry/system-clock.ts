import type { Clock } from '../platform.ts';

/** The longest delay that timers take, in milliseconds; they fire at once past it. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** The time of the machine. Its timers keep a Node process alive until they fire or are aborted. */
export const systemClock: Clock = {
  now: () => Date.now(),
  async sleep(milliseconds, signal) {
    let left = milliseconds;
    for (; left > LONGEST_TIMER; left -= LONGEST_TIMER) await pause(LONGEST_TIMER, signal);
    await pause(left, signal);
  },
};

function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(signal.reason);
      return;
    }
    const wake = (): void => {
      signal?.removeEventListener('abort', abort);
      resolve();
    };
    const abort = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(wake, milliseconds);
    signal?.addEventListener('abort', abort, { once: true });
  });
}
