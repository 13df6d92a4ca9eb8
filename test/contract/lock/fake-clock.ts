import type { Clock } from '../../../src/platform.ts';

/** A clock that stands still until it is told to advance. */
export interface FakeClock extends Clock {
  /**
   * Moves time on by `milliseconds`, waking sleepers in the order of their time, and lets what they
   * started run until it waits again.
   */
  advance(milliseconds: number): Promise<void>;
  /** Sleepers that were neither woken nor aborted. */
  readonly sleeping: number;
  /** How many of them sleep for just so many milliseconds. */
  sleepingFor(milliseconds: number): number;
  /** From now on time passes there too, before any sleeper here is woken. */
  attach(elsewhere: Elsewhere): void;
}

/** Something outside of the process, which has a clock of its own. */
export interface Elsewhere {
  /** Lets time pass. */
  elapse(milliseconds: number): Promise<void>;
  /** Whether it is still at work for somebody in the process. */
  busy(): boolean;
}

interface Sleeper {
  readonly at: number;
  readonly milliseconds: number;
  readonly wake: () => void;
}

/** @param start milliseconds since the epoch */
export function createFakeClock(start = 1_700_000_000_000): FakeClock {
  let now = start;
  const sleepers = new Set<Sleeper>();
  let elsewhere: Elsewhere | null = null;

  /** Lets every promise that is ready run, those that they make ready, and what is asked of elsewhere. */
  async function settle(): Promise<void> {
    do await turn();
    while (elsewhere?.busy() === true);
    await turn();
  }

  async function moveTo(time: number): Promise<void> {
    if (time <= now) return;
    await elsewhere?.elapse(time - now);
    now = time;
  }

  return {
    now: () => now,
    sleep: (milliseconds, signal) =>
      new Promise((resolve, reject) => {
        if (signal?.aborted === true) {
          reject(signal.reason);
          return;
        }
        const abort = (): void => {
          sleepers.delete(sleeper);
          reject(signal?.reason);
        };
        const sleeper: Sleeper = {
          at: now + milliseconds,
          milliseconds,
          wake: () => {
            sleepers.delete(sleeper);
            signal?.removeEventListener('abort', abort);
            resolve();
          },
        };
        sleepers.add(sleeper);
        signal?.addEventListener('abort', abort, { once: true });
      }),
    async advance(milliseconds) {
      const end = now + milliseconds;
      await settle();
      for (;;) {
        const next = [...sleepers].sort((a, b) => a.at - b.at)[0];
        if (next === undefined || next.at > end) break;
        await moveTo(next.at);
        next.wake();
        await settle();
      }
      await moveTo(end);
      await settle();
    },
    get sleeping() {
      return sleepers.size;
    },
    sleepingFor: (milliseconds) =>
      [...sleepers].filter((sleeper) => sleeper.milliseconds === milliseconds).length,
    attach(place) {
      elsewhere = place;
    },
  };
}

function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
