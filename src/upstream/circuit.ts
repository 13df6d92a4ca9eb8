import type { UpstreamSettings } from './settings.ts';

type CircuitSettings = Pick<UpstreamSettings, 'circuitThreshold' | 'circuitOpenMs' | 'circuitMaxOpenMs'>;

/** How many hedges in a row an upstream may lose before nobody waits for it any more. */
const TARDY_AFTER = 3;

/**
 * How long a probe may be on its way, in milliseconds, before another one is sent: the one who sent it may have been
 * ended from outside (a Worker's request). Longer than the time-outs of a probe.
 */
const PROBE_MS = 30_000;

/** How long a tardy upstream is not waited for, in milliseconds. */
const TARDY_MS = 10_000;

/**
 * The health of one upstream. Closed: requests are sent. Open: none is, until a time has passed. Half-open:
 * still none is, but one probe is on its way and decides. Nothing here has a timer: time is looked
 * at when somebody asks.
 *
 * Written here rather than taken from a library: those let the first real request be the probe and make
 * it fail with its client; here a probe is a request of its own, beside those that are answered.
 */
export class Circuit {
  readonly #settings: CircuitSettings;
  readonly #random: () => number;
  #faultsInARow = 0;
  #timesOpened = 0;
  /** Milliseconds since the epoch; null while it is closed. */
  #openUntil: number | null = null;
  /** When the probe on its way was sent, in milliseconds since the epoch; null where none is. */
  #probeSentAt: number | null = null;
  #lastFault: string | null = null;
  #hedgesLost = 0;
  #tardyUntil = 0;

  constructor(settings: CircuitSettings, random: () => number) {
    this.#settings = settings;
    this.#random = random;
  }

  get state(): 'closed' | 'open' | 'half-open' {
    if (this.#openUntil === null) return 'closed';
    return this.#probeSentAt === null ? 'open' : 'half-open';
  }

  /** The last fault, null if the last exchange went well. */
  get lastFault(): string | null {
    return this.#lastFault;
  }

  /** Whether a probe should be sent now. The one who is told so must send it: nobody else will be. */
  takeProbe(now: number): boolean {
    if (this.#openUntil === null || now < this.#openUntil) return false;
    if (this.#probeSentAt !== null && now - this.#probeSentAt < PROBE_MS) return false;
    this.#probeSentAt = now;
    return true;
  }

  /** It answered, whatever it said. @returns whether this closed the circuit */
  answered(): boolean {
    const wasOpen = this.#openUntil !== null;
    this.#faultsInARow = 0;
    this.#timesOpened = 0;
    this.#openUntil = null;
    this.#probeSentAt = null;
    this.#lastFault = null;
    return wasOpen;
  }

  /** A request failed for good. @returns whether this opened the circuit */
  failed(message: string, now: number): boolean {
    this.#lastFault = message;
    this.#faultsInARow += 1;
    if (this.#openUntil !== null || this.#faultsInARow < this.#settings.circuitThreshold) return false;
    this.#open(now);
    return true;
  }

  probeFailed(message: string, now: number): void {
    // A request that was under way when it opened may have closed it since.
    if (this.#openUntil === null) return;
    this.#lastFault = message;
    this.#probeSentAt = null;
    this.#open(now);
  }

  #open(now: number): void {
    const { circuitOpenMs, circuitMaxOpenMs } = this.#settings;
    const time = Math.min(circuitMaxOpenMs, circuitOpenMs * 2 ** this.#timesOpened);
    this.#timesOpened += 1;
    // A fifth of jitter, downwards, so that the instances of a fleet do not probe in step.
    this.#openUntil = now + time * (1 - 0.2 * this.#random());
  }

  /** It answered in time for its race. */
  inTime(): void {
    this.#hedgesLost = 0;
    this.#tardyUntil = 0;
  }

  /** A worse upstream won because this one was too slow. It is cancelled then, so no fault is seen. */
  lostHedge(now: number): void {
    this.#hedgesLost += 1;
    if (this.#hedgesLost >= TARDY_AFTER) this.#tardyUntil = now + TARDY_MS;
  }

  /** Whether a race should not wait for it: it lost the last hedges, a short while ago. */
  isTardy(now: number): boolean {
    return now < this.#tardyUntil;
  }
}
