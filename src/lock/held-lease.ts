import type { Clock } from '../platform.ts';
import type { LeaseService } from './lease-service.ts';
import type { Lease } from './lock-manager.ts';
import { assertMilliseconds } from './milliseconds.ts';
import type { Stopwatch } from './stopwatch.ts';

/** By how much clocks may differ in their pace, as a part of the time, and in milliseconds beyond that. */
const DRIFT = { part: 0.01, milliseconds: 2 };

/** What a lease needs of its manager. */
export interface LeaseKeeper {
  readonly leases: LeaseService;
  readonly clock: Clock;
  startStopwatch(): Stopwatch;
}

/** A lease kept elsewhere, and how long it is surely ours. */
export class HeldLease implements Lease {
  readonly name: string;
  readonly token: string;
  readonly #keeper: LeaseKeeper;
  readonly #lost = new AbortController();
  #since: Stopwatch;
  #validMs: number;
  #timer = new AbortController();
  #released: Promise<void> | null = null;

  /** @param since started before the request was sent: the service's own count began later */
  constructor(keeper: LeaseKeeper, name: string, token: string, since: Stopwatch, leaseMs: number) {
    this.name = name;
    this.token = token;
    this.#keeper = keeper;
    this.#since = since;
    this.#validMs = validMs(leaseMs);
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** Milliseconds for which it is surely ours yet; less than 0 afterwards. */
  get leftMs(): number {
    return this.#validMs - this.#since.elapsed();
  }

  /** Whether nobody holds it any more as far as this process is concerned. */
  get over(): boolean {
    return this.#released !== null || this.#lost.signal.aborted || this.leftMs <= 0;
  }

  /** Watches over its end from now on. */
  start(): this {
    this.#countDown();
    return this;
  }

  async extend(leaseMs: number): Promise<boolean> {
    assertMilliseconds('leaseMs', leaseMs, 1);
    // Before anybody is asked: a holder that was paused may not have had its timer yet.
    if (this.#isOver()) return false;
    const since = this.#keeper.startStopwatch();
    // A request that shortens it may be obeyed although its answer is lost.
    if (validMs(leaseMs) < this.leftMs) this.#endAfter(since, leaseMs);
    const still = await this.#keeper.leases.extend(this.name, this.token, leaseMs);
    if (this.#isOver()) return false;
    if (!still) {
      this.#lose("is another's by now");
      return false;
    }
    this.#endAfter(since, leaseMs);
    return true;
  }

  release(): Promise<void> {
    this.#timer.abort();
    // Also where it ran out: by the count of the service, which began later, it may be held yet.
    this.#released ??= this.#keeper.leases.release(this.name, this.token).catch(() => undefined);
    return this.#released;
  }

  /** Its manager is closed: it is lost, and given back. */
  async close(): Promise<void> {
    if (this.#released !== null) return;
    this.#lose('was closed');
    await this.release();
  }

  #lose(what: string): void {
    this.#timer.abort();
    this.#lost.abort(new Error(`The lock ${JSON.stringify(this.name)} ${what}`));
  }

  #isOver(): boolean {
    if (this.#released !== null || this.#lost.signal.aborted) return true;
    if (this.leftMs > 0) return false;
    this.#lose('was held until its lease ran out');
    return true;
  }

  #endAfter(since: Stopwatch, leaseMs: number): void {
    this.#since = since;
    this.#validMs = validMs(leaseMs);
    this.#countDown();
  }

  #countDown(): void {
    this.#timer.abort();
    const timer = new AbortController();
    this.#timer = timer;
    this.#keeper.clock.sleep(Math.max(0, Math.ceil(this.leftMs)), timer.signal).then(
      () => {
        // A timer may come a little early.
        if (!timer.signal.aborted && !this.#isOver()) this.#countDown();
      },
      // Aborted: it was extended, released or lost.
      () => undefined,
    );
  }
}

function validMs(leaseMs: number): number {
  return leaseMs * (1 - DRIFT.part) - DRIFT.milliseconds;
}
