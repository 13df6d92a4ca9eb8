import type { LeaseStore } from '../database/lease-store.ts';
import { guardLeases } from './guarded-leases.ts';
import type { LockOptions } from './lease-service.ts';
import { createLeasedLocks } from './leased-locks.ts';
import type { LockManager } from './lock-manager.ts';

/** What locks in the database need. */
export interface DatabaseLocksOptions extends LockOptions {
  readonly leases: LeaseStore;
  /** Before each name. @default none: the database is the cache's own */
  readonly prefix?: string;
}

/** One in so many locks that are taken removes the rows of holders that died. */
const CLEAN_EVERY = 200;
/** How long such rows are kept, in milliseconds: there is no hurry. */
const KEEP_ENDED_MS = 3_600_000;

/**
 * Locks as rows of the index, where there is no lock service. Who waits asks the database every half second. Does not
 * take the database over: `close` leaves it open.
 */
export function createDatabaseLocks(options: DatabaseLocksOptions): LockManager {
  const { leases, prefix = '', platform } = options;
  const service = guardLeases(
    {
      description: leases.description,
      async take(name, token, leaseMs) {
        const had = await leases.take(prefix + name, token, Math.ceil(leaseMs));
        if (had && platform.random() < 1 / CLEAN_EVERY) {
          platform.defer('clean up ended leases', leases.removeEnded(KEEP_ENDED_MS));
        }
        return had;
      },
      extend: (name, token, leaseMs) => leases.extend(prefix + name, token, Math.ceil(leaseMs)),
      release: (name, token) => leases.release(prefix + name, token),
      ping: () => leases.ping(),
      close: () => Promise.resolve(),
    },
    options,
  );
  return createLeasedLocks(service, options);
}
