import type { Config } from '../../config/config.ts';
import type { LeaseStore } from '../../database/lease-store.ts';
import { createDatabaseLocks } from '../../lock/database.ts';
import { createLocalLocks } from '../../lock/local.ts';
import type { LockManager } from '../../lock/lock-manager.ts';
import { createUpstashLocks } from '../../lock/redis/upstash.ts';
import type { Platform } from '../../platform.ts';

/** @throws Error for a kind that is not there on Workers, which the configuration refuses before */
export function openLocks({ lock, lockPrefix }: Config, leases: LeaseStore, platform: Platform): LockManager {
  switch (lock.kind) {
    case 'local':
      // For one request: the timers and promises of one must not be another's.
      return createLocalLocks({ clock: platform.clock });
    case 'database':
      return createDatabaseLocks({ leases, prefix: lockPrefix, platform });
    case 'upstash':
      return createUpstashLocks({ endpoints: lock.endpoints, prefix: lockPrefix, platform });
    case 'redis':
      throw new Error('There is no Redis over TCP on Workers');
  }
}
