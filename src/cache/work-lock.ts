import type { Lease } from '../lock/lock-manager.ts';
import { patience } from '../platform.ts';
import type { CacheServices } from './services.ts';

/** A lock saves doing work twice; it never carries correctness (law 4). */
export type WorkLock =
  | {
      readonly kind: 'held';
      /** Aborted when it was found to be another's by now. */
      readonly lost: AbortSignal;
      /** Gives it back. Never throws, and never waits long: a release that hangs costs others the rest of the lease. */
      release(): Promise<void>;
    }
  /** Another instance does this work, and did not finish while we waited. */
  | { readonly kind: 'taken' }
  /** The locks are at fault: the work goes on without. */
  | { readonly kind: 'uncoordinated' };

/** The locks of one kind of work in this process. */
export interface WorkLocks {
  /**
   * Takes the lock of one piece of work. A lock service that fails or hangs costs a bounded wait.
   *
   * @param waitMs how long to wait for its holder, in milliseconds
   * @throws the signal's reason
   */
  take(key: string, waitMs: number, signal: AbortSignal): Promise<WorkLock>;
}

/** How long others keep away from a holder that says nothing any more, in milliseconds. */
const LEASE_MS = 60_000;
/** What a lock service may take beyond the wait for a holder: to say no, to extend, and to take a lock back. */
const GRACE_MS = 1_000;

/** @param prefix of the names of its locks, as `fill:` */
export function createWorkLocks(
  { locks, platform }: Pick<CacheServices, 'locks' | 'platform'>,
  prefix: string,
): WorkLocks {
  const { clock, logger, metrics } = platform;

  /** The driver has one line for when they go and one for when they are back; here each piece of work would have its own. */
  function failed(operation: string, key: string, error: unknown): void {
    metrics.count('snowcap_lock_faults_total', { operation });
    logger.debug('The locks are at fault: work goes on without', { operation, key, error });
  }

  /** @throws Error where the work takes longer than `milliseconds` */
  async function within<T>(milliseconds: number, work: Promise<T>): Promise<T> {
    const over = new AbortController();
    const enough = patience(clock, milliseconds, over.signal).then((): never => {
      throw new Error(`The lock service gave no answer within ${milliseconds} ms`);
    });
    try {
      return await Promise.race([work, enough]);
    } finally {
      over.abort();
    }
  }

  /**
   * Says now and then that the lock is in use, by the clock: a body that is slow, or waits for the store, is still on its
   * way. Each call is bounded, and nothing waits for it. Ends when the lease is found lost: the fill goes on
   * harmlessly (its put is only if absent).
   */
  async function extend(key: string, lease: Lease, signal: AbortSignal): Promise<void> {
    try {
      for (;;) {
        await clock.sleep(LEASE_MS / 3, signal);
        const extended = await within(GRACE_MS, lease.extend(LEASE_MS)).catch((error: unknown) => {
          failed('extend', key, error);
          return null;
        });
        if (extended !== false) continue;
        logger.debug('A lock was lost: its work goes on without', { key });
        return;
      }
    } catch {
      // Released.
    }
  }

  function held(key: string, lease: Lease): WorkLock {
    const released = new AbortController();
    void extend(key, lease, released.signal);
    return {
      kind: 'held',
      lost: lease.lost,
      async release() {
        if (released.signal.aborted) return;
        released.abort();
        await within(GRACE_MS, lease.release()).catch((error: unknown) => failed('release', key, error));
      },
    };
  }

  return {
    async take(key, waitMs, signal) {
      const enough = new AbortController();
      const options = { leaseMs: LEASE_MS, waitMs, signal: AbortSignal.any([signal, enough.signal]) };
      // Async, so that a driver that throws at once is like one whose promise is rejected.
      const asked = (async () => await locks.acquire(`${prefix}${key}`, options))();
      try {
        const lease = await within(waitMs + GRACE_MS, asked);
        return lease === null ? { kind: 'taken' } : held(key, lease);
      } catch (error) {
        // What comes late is nobody's.
        void asked.then((late) => late?.release()).catch(() => undefined);
        enough.abort(error);
        signal.throwIfAborted();
        failed('acquire', key, error);
        return { kind: 'uncoordinated' };
      }
    },
  };
}
