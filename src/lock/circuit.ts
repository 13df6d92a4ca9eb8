/** How many faults in a row open it. */
const THRESHOLD = 3;
/** How long it is open for the first time, in milliseconds; twice as long after each probe that fails… */
const OPEN_MS = 1_000;
/** …up to this. */
const MOST_OPEN_MS = 60_000;
/** How long a probe may be on its way before the next one, in milliseconds: its sender may never tell. */
const PROBE_MS = 5_000;

/** How a request was let through. */
export type Admission = 'request' | 'probe';

/**
 * The health of one lock service. Closed: every request is let through. Open: none is, until a time has passed, and
 * then one, whose outcome decides. No timers, no promises: time is looked at when somebody asks, so that it
 * may outlive the requests of a Worker. Times are milliseconds of a monotonic clock.
 */
export class Circuit {
  #faultsInARow = 0;
  #timesOpened = 0;
  #openUntil: number | null = null;

  /** Null where the service is to be left alone. */
  admit(now: number): Admission | null {
    if (this.#openUntil === null) return 'request';
    if (now < this.#openUntil) return null;
    this.#openUntil = now + PROBE_MS;
    return 'probe';
  }

  /** @returns whether this closed it */
  answered(): boolean {
    const wasOpen = this.#openUntil !== null;
    this.#faultsInARow = 0;
    this.#timesOpened = 0;
    this.#openUntil = null;
    return wasOpen;
  }

  /** @param random in [0, 1) @returns whether this opened it */
  failed(admission: Admission, now: number, random: number): boolean {
    const wasOpen = this.#openUntil !== null;
    this.#faultsInARow += 1;
    // Requests that were under way when it opened fail after it.
    if (wasOpen ? admission === 'request' : this.#faultsInARow < THRESHOLD) return false;
    const time = Math.min(MOST_OPEN_MS, OPEN_MS * 2 ** this.#timesOpened);
    this.#timesOpened += 1;
    // A fifth of jitter, downwards, so that the instances of a fleet do not probe in step.
    this.#openUntil = now + time * (1 - 0.2 * random);
    return !wasOpen;
  }
}
