import { HeldLease, type LeaseKeeper } from './held-lease.ts';
import type { LeaseService, LockOptions } from './lease-service.ts';
import type { AcquireOptions, Lease, LockManager } from './lock-manager.ts';
import { assertMilliseconds } from './milliseconds.ts';
import { startStopwatch } from './stopwatch.ts';

/** The first pause between two looks at a lock that another holds, in milliseconds; then twice as long each time… */
const FIRST_PAUSE_MS = 25;
/** …up to this. */
const LONGEST_PAUSE_MS = 500;

/** Longer than the last try takes, in milliseconds. */
const LONGEST_TRY_MS = 60_000;

/**
 * Locks whose leases are kept outside of this process. The protocol:
 *
 * - A lease is a name, the token of its holder, and an end by the clock of the service. Each try to take one has a
 *   token of its own, so nothing that becomes of an older try can touch a newer one.
 * - *Lost replies.* Taking also succeeds where the value is our token already, so a request whose answer was lost is
 *   sent again with the same token, and we hold what the first one took. Extending and releasing by token may be
 *   repeated too. Whoever gives up on a try gives its lease back, now and when its answer comes late. What a request
 *   takes that is executed still later nobody holds, until its lease ends.
 * - *Expired leases.* Ours is over by our own count, which began before the request was sent and allows for clocks of
 *   another pace: always before the service gives it to the next one. `lost` is aborted then, or earlier when an
 *   extension finds another's token. A lease whose answer took longer than the lease itself is none.
 * - *Paused holders.* Whoever was stopped for longer than its lease finds that out by its own count before it asks
 *   anything. Between two looks at `lost` it may still act: that is why a lock never carries correctness (law 4).
 * - *Clock jumps.* Our count goes by the monotonic clock or by that of the wall, whichever says more: setting a clock
 *   back, or putting a machine to sleep, extends nothing. The ends of leases are the service's own, so clocks
 *   of instances need not agree.
 * - *Waiting.* The one who waits looks again after growing pauses with jitter, and at once where it hears of the
 *   release. Nothing is polled faster than `FIRST_PAUSE_MS`, and nobody stands in a queue.
 *
 * Holds no connection, timer or promise beyond the calls and leases of each request, so that a Worker may keep it across
 * them, provided that its service hears of no releases: one request would wake another.
 */
export function createLeasedLocks(leases: LeaseService, options: LockOptions): LockManager {
  return new LeasedLocks(leases, options);
}

class LeasedLocks implements LockManager, LeaseKeeper {
  readonly leases: LeaseService;
  readonly #platform: LockOptions['platform'];
  readonly #monotonic: () => number;
  readonly #token: () => string;
  readonly #held = new Set<HeldLease>();
  /** Calls of `acquire`, and when they are over at the latest by the monotonic clock. */
  readonly #calls = new Map<AbortController, number>();
  /** Who waits for a release, by name. */
  readonly #listeners = new Map<string, Set<() => void>>();
  #closed = false;

  constructor(leases: LeaseService, options: LockOptions) {
    this.leases = leases;
    this.#platform = options.platform;
    this.#monotonic = options.monotonic ?? (() => performance.now());
    this.#token = options.token ?? (() => crypto.randomUUID());
    leases.onRelease?.((name) => {
      for (const wake of this.#listeners.get(name) ?? []) wake();
    });
  }

  get description(): string {
    return this.leases.description;
  }

  get clock(): LeaseKeeper['clock'] {
    return this.#platform.clock;
  }

  startStopwatch(): ReturnType<LeaseKeeper['startStopwatch']> {
    return startStopwatch(this.#platform.clock, this.#monotonic);
  }

  async acquire(name: string, options: AcquireOptions): Promise<Lease | null> {
    assertMilliseconds('leaseMs', options.leaseMs, 1);
    assertMilliseconds('waitMs', options.waitMs, 0);
    options.signal?.throwIfAborted();
    if (this.#closed) return null;
    const call = new AbortController();
    const abort = (): void => call.abort(options.signal?.reason);
    options.signal?.addEventListener('abort', abort, { once: true });
    this.#note(call, options.waitMs);
    try {
      return await this.#acquire(name, options, call.signal);
    } catch (error) {
      if (this.#closed) return null;
      throw error;
    } finally {
      this.#calls.delete(call);
      options.signal?.removeEventListener('abort', abort);
    }
  }

  async ping(): Promise<void> {
    if (this.#closed) throw new Error(`The locks on ${this.description} are closed`);
    await this.leases.ping();
  }

  /** Gives back what is held, as far as the service answers in time. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const call of this.#calls.keys()) call.abort(new Error('The locks were closed'));
    await Promise.all([...this.#held].map((lease) => lease.close()));
    this.#held.clear();
    await this.leases.close();
  }

  #note(call: AbortController, waitMs: number): void {
    // A Worker drops what it does for a client that left, in the middle and without a word.
    const now = this.#monotonic();
    for (const [other, over] of this.#calls) if (over < now) this.#calls.delete(other);
    for (const lease of this.#held) if (lease.over) this.#held.delete(lease);
    this.#calls.set(call, now + waitMs + LONGEST_TRY_MS);
  }

  async #acquire(name: string, options: AcquireOptions, signal: AbortSignal): Promise<Lease | null> {
    const { leaseMs, waitMs } = options;
    const waited = this.startStopwatch();
    for (let longest = FIRST_PAUSE_MS; ; longest = Math.min(LONGEST_PAUSE_MS, 2 * longest)) {
      const lease = await this.#try(name, leaseMs, signal);
      if (lease !== null) return lease;
      const leftMs = waitMs - waited.elapsed();
      if (leftMs <= 0) return null;
      const pauseMs = longest * (0.5 + 0.5 * this.#platform.random());
      await this.#pause(name, Math.ceil(Math.min(leftMs, pauseMs)), signal);
    }
  }

  async #try(name: string, leaseMs: number, signal: AbortSignal): Promise<Lease | null> {
    const token = this.#token();
    const lease = new HeldLease(this, name, token, this.startStopwatch(), leaseMs);
    const taking = this.leases.take(name, token, leaseMs);
    try {
      const had = await untilAborted(taking, signal);
      if (!had) return null;
      if (lease.leftMs > 0) {
        this.#held.add(lease);
        return lease.start();
      }
    } catch (error) {
      // Of a service that failed, it has taken care itself.
      if (!signal.aborted) throw error;
      this.#giveBack(taking.then((had) => (had ? lease.release() : undefined)));
      throw error;
    }
    this.#giveBack(lease.release());
    return null;
  }

  #giveBack(work: Promise<unknown>): void {
    this.#platform.defer(
      'give back a lock that came late',
      work.catch(() => undefined),
    );
  }

  /** Until so much time has passed, or the release of that name was heard of. @throws the signal's reason */
  async #pause(name: string, milliseconds: number, signal: AbortSignal): Promise<void> {
    const timer = new AbortController();
    const heard = Promise.withResolvers<void>();
    const wake = (): void => heard.resolve();
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(wake));
    try {
      const slept = this.#platform.clock.sleep(milliseconds, timer.signal);
      await untilAborted(Promise.race([slept, heard.promise]), signal);
    } finally {
      timer.abort();
      listeners.delete(wake);
      if (listeners.size === 0 && this.#listeners.get(name) === listeners) this.#listeners.delete(name);
    }
  }
}

/** The promise's outcome, unless the signal is aborted first or has been by then. @throws the signal's reason */
async function untilAborted<Value>(promise: Promise<Value>, signal: AbortSignal): Promise<Value> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = (): void => reject(signal.reason);
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });
  try {
    const value = await Promise.race([promise, aborted]);
    signal.throwIfAborted();
    return value;
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
