import type { Lease } from '../../lock/lock-manager.ts';
import type { CacheServices } from '../services.ts';

/** A lock saves a second download; it never carries correctness (law 4). */
export type FillLock =
  | { readonly kind: 'held'; readonly lease: Lease }
  /** Another instance fills this key, and did not finish while we waited. */
  | { readonly kind: 'taken' }
  /** The locks are at fault: the work goes on without. */
  | { readonly kind: 'uncoordinated' };

const LEASE_MS = 60_000;
/** How long to wait for another instance that fills the same key, before reading the upstream unsaved. */
const WAIT_MS = 5_000;
/** What a lock service may take beyond that to say no, and to take a lock back. */
const GRACE_MS = 1_000;

type Services = Pick<CacheServices, 'locks' | 'platform'>;

/** Takes the lock of a key. A lock service that fails or hangs costs a bounded wait. @throws the signal's reason */
export async function lockFill(services: Services, key: string, signal: AbortSignal): Promise<FillLock> {
  const { locks, platform } = services;
  const patience = new AbortController();
  const options = { leaseMs: LEASE_MS, waitMs: WAIT_MS, signal };
  // Async, so that a driver that throws at once is like one whose promise is rejected.
  const asked = (async () => await locks.acquire(`fill:${key}`, options))();
  const enough = platform.clock.sleep(WAIT_MS + GRACE_MS, patience.signal).then(() => {
    void asked.then((late) => late?.release()).catch(() => undefined);
    throw new Error(`The lock service gave no answer within ${WAIT_MS + GRACE_MS} ms`);
  });
  try {
    const lease = await Promise.race([asked, enough]);
    return lease === null ? { kind: 'taken' } : { kind: 'held', lease };
  } catch (error) {
    signal.throwIfAborted();
    platform.logger.warn('The locks are at fault: a fill goes on without', { key, error });
    return { kind: 'uncoordinated' };
  } finally {
    patience.abort();
  }
}

/** Gives it back. A release that fails or hangs costs others the rest of the lease, and nobody here anything. */
export async function unlockFill({ platform }: Services, lock: FillLock): Promise<void> {
  if (lock.kind !== 'held') return;
  const patience = new AbortController();
  const enough = platform.clock.sleep(GRACE_MS, patience.signal);
  await Promise.race([lock.lease.release(), enough]).catch(() => undefined);
  patience.abort();
}

/** Says now and then that the lock is still in use. Call it as often as you like. */
export function heartbeat({ platform }: Services, lock: FillLock): () => void {
  if (lock.kind !== 'held') return () => undefined;
  let extended = platform.clock.now();
  return () => {
    const now = platform.clock.now();
    if (now - extended < LEASE_MS / 3) return;
    extended = now;
    void lock.lease.extend(LEASE_MS).catch(() => false);
  };
}
