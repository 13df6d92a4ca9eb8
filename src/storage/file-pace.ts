/**
 * Decides whether file calls may block the event loop. They may as long as they are quick. One that had to wait
 * for the disk sends the reads that follow to the thread pool for `REST` times as long as it took: so waiting
 * takes at most 1/`REST` of the time.
 */
export interface Pace {
  mayBlock(): boolean;
  /** Runs a call in place and takes its time. */
  time<Result>(call: () => Result): Result;
}

/** Milliseconds. Above what a warm page cache ever takes, below a seek of a spinning disk. */
const SLOW = 5;
/** Milliseconds that count whatever the reason: some network file systems do not account for what they read. */
const STUCK = 100;
const REST = 100;

/**
 * @param now monotonic milliseconds, with fractions
 * @param diskReads how often this process has read from disks so far. A call that was slow while nothing was
 *   read did not wait for a disk: on a busy machine, another process had the core.
 */
export function createPace(now: () => number, diskReads: () => number): Pace {
  let restUntil = Number.NEGATIVE_INFINITY;
  let readsSeen = diskReads();
  return {
    mayBlock: () => now() >= restUntil,
    time(call) {
      const began = now();
      try {
        return call();
      } finally {
        const ended = now();
        const took = ended - began;
        if (took > SLOW) {
          const reads = diskReads();
          if (reads !== readsSeen || took > STUCK) restUntil = ended + took * REST;
          readsSeen = reads;
        }
      }
    },
  };
}
