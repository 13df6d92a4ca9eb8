/**
 * Locks save work; they never carry correctness (law 4): whoever holds none may still do the work,
 * and whoever lost a lease in the middle ends harmlessly. A lock service that is down is the same as
 * a lock that could not be had.
 */
export interface LockManager {
  readonly description: string;

  /**
   * Takes the lock, waiting for it at most `waitMs`.
   *
   * @returns null if another holder kept it for the whole wait
   * @throws the signal's reason when the wait is aborted; anything else means that the lock service could not be asked,
   *   and work goes on uncoordinated
   */
  acquire(name: string, options: AcquireOptions): Promise<Lease | null>;

  /** Cheap proof that the lock service can be reached; throws where it cannot. */
  ping(): Promise<void>;

  close(): Promise<void>;
}

export interface AcquireOptions {
  /** How long the lock is held without an extension, in milliseconds. */
  readonly leaseMs: number;
  /** How long to wait for it, in milliseconds; 0 tries once. */
  readonly waitMs: number;
  readonly signal?: AbortSignal;
}

export interface Lease {
  readonly name: string;
  /** Tells this holder from every other one, before and after. */
  readonly token: string;
  /** Aborted when the lease ran out or was found to be another's. */
  readonly lost: AbortSignal;
  /**
   * Holds on for another `leaseMs` from now; false where the lease is no longer ours.
   *
   * @throws Error where the lock service could not be asked: the lease then ends when it would have ended anyway, or
   *   when this would have made it end, whichever comes first
   */
  extend(leaseMs: number): Promise<boolean>;
  /** Gives the lock up, if it is still ours. Never throws; may be called twice. */
  release(): Promise<void>;
}
