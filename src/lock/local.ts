import type { Clock } from '../platform.ts';
import type { AcquireOptions, Lease, LockManager } from './lock-manager.ts';
import { assertMilliseconds } from './milliseconds.ts';

/** What local locks need. */
export interface LocalLocksOptions {
  /** Leases and waits run by it. */
  readonly clock: Clock;
  /** Makes the token of a lease; each must differ from every other. @default crypto.randomUUID */
  readonly token?: () => string;
}

/** One lease as it stands: `timer` ends its countdown. */
interface Holder {
  readonly token: string;
  readonly lost: AbortController;
  timer: AbortController;
  /** Milliseconds since the epoch. */
  expiresAt: number;
}

interface Waiter {
  readonly leaseMs: number;
  readonly settle: (lease: Lease | null) => void;
}

/** A lock that is held. Waiters stand in the order in which they came. */
interface HeldLock {
  holder: Holder;
  readonly waiters: Set<Waiter>;
}

/**
 * Locks within one process. Waiters are served in the order in which they came; a lease that runs out
 * passes to the next of them at once. A name costs memory only while it is held.
 */
export function createLocalLocks(options: LocalLocksOptions): LockManager {
  return new LocalLocks(options.clock, options.token ?? (() => crypto.randomUUID()));
}

class LocalLocks implements LockManager {
  readonly description = 'local';
  readonly #clock: Clock;
  readonly #token: () => string;
  readonly #held = new Map<string, HeldLock>();
  #closed = false;

  constructor(clock: Clock, token: () => string) {
    this.#clock = clock;
    this.#token = token;
  }

  async acquire(name: string, options: AcquireOptions): Promise<Lease | null> {
    assertMilliseconds('leaseMs', options.leaseMs, 1);
    assertMilliseconds('waitMs', options.waitMs, 0);
    options.signal?.throwIfAborted();
    if (this.#closed) return null;

    // A lease may be over although its timer had no turn yet: the process was busy, or asleep.
    const found = this.#held.get(name);
    if (found !== undefined && found.holder.expiresAt <= this.#clock.now()) this.#expire(name, found.holder);

    const held = this.#held.get(name);
    if (held === undefined) {
      const holder = this.#newHolder();
      this.#held.set(name, { holder, waiters: new Set() });
      return this.#start(name, holder, options.leaseMs);
    }
    return options.waitMs === 0 ? null : this.#wait(held, options);
  }

  ping(): Promise<void> {
    return this.#closed ? Promise.reject(new Error('The local locks are closed')) : Promise.resolve();
  }

  close(): Promise<void> {
    this.#closed = true;
    for (const [name, { holder, waiters }] of this.#held) {
      for (const waiter of waiters) waiter.settle(null);
      holder.timer.abort();
      holder.lost.abort(new Error(`The lock ${JSON.stringify(name)} was closed`));
    }
    this.#held.clear();
    return Promise.resolve();
  }

  async #wait(held: HeldLock, { leaseMs, waitMs, signal }: AcquireOptions): Promise<Lease | null> {
    const { promise, resolve, reject } = Promise.withResolvers<Lease | null>();
    const timeout = new AbortController();
    const waiter: Waiter = { leaseMs, settle: resolve };
    // Who gives up leaves the queue in the same turn: a lease granted to it later would be nobody's.
    const abandon = (): void => {
      held.waiters.delete(waiter);
      reject(signal?.reason);
    };
    held.waiters.add(waiter);
    signal?.addEventListener('abort', abandon, { once: true });
    this.#after(waitMs, timeout.signal, () => {
      held.waiters.delete(waiter);
      resolve(null);
    });
    try {
      return await promise;
    } finally {
      timeout.abort();
      signal?.removeEventListener('abort', abandon);
    }
  }

  #newHolder(): Holder {
    return { token: this.#token(), lost: new AbortController(), timer: new AbortController(), expiresAt: 0 };
  }

  #start(name: string, holder: Holder, leaseMs: number): Lease {
    this.#countDown(name, holder, leaseMs);
    return {
      name,
      token: holder.token,
      lost: holder.lost.signal,
      extend: (milliseconds) => this.#extend(name, holder, milliseconds),
      release: () => {
        this.#release(name, holder);
        return Promise.resolve();
      },
    };
  }

  #countDown(name: string, holder: Holder, leaseMs: number): void {
    holder.timer.abort();
    holder.timer = new AbortController();
    holder.expiresAt = this.#clock.now() + leaseMs;
    this.#after(leaseMs, holder.timer.signal, () => this.#expire(name, holder));
  }

  #after(milliseconds: number, signal: AbortSignal, act: () => void): void {
    this.#clock.sleep(milliseconds, signal).then(
      () => {
        if (!signal.aborted) act();
      },
      // Aborted: nobody waits for it any more.
      () => undefined,
    );
  }

  async #extend(name: string, holder: Holder, leaseMs: number): Promise<boolean> {
    assertMilliseconds('leaseMs', leaseMs, 1);
    if (this.#held.get(name)?.holder !== holder) return false;
    if (holder.expiresAt <= this.#clock.now()) {
      this.#expire(name, holder);
      return false;
    }
    this.#countDown(name, holder, leaseMs);
    return true;
  }

  #expire(name: string, holder: Holder): void {
    this.#release(name, holder);
    holder.lost.abort(new Error(`The lease of lock ${JSON.stringify(name)} ran out`));
  }

  #release(name: string, holder: Holder): void {
    const held = this.#held.get(name);
    if (held?.holder !== holder) return;
    holder.timer.abort();
    const [next] = held.waiters;
    if (next === undefined) {
      this.#held.delete(name);
      return;
    }
    held.waiters.delete(next);
    held.holder = this.#newHolder();
    next.settle(this.#start(name, held.holder, next.leaseMs));
  }
}
