import type { Config } from '../../config/config.ts';
import type { LeaseStore } from '../../database/lease-store.ts';
import type { LockManager } from '../../lock/lock-manager.ts';
import type { Platform } from '../../platform.ts';

/**
 * The locks that a configuration asks for. That a lock service does not answer now is no reason not to start (law 6).
 *
 * @param leases of the index, for locks in the database
 * @throws Error for endpoints that cannot be used
 */
export async function openLocks(
  { lock, lockPrefix: prefix }: Config,
  platform: Platform,
  leases: LeaseStore,
): Promise<LockManager> {
  switch (lock.kind) {
    case 'local': {
      const { createLocalLocks } = await import('../../lock/local.ts');
      return createLocalLocks({ clock: platform.clock });
    }
    case 'redis': {
      const { createRedisLocks } = await import('../../lock/redis/tcp.ts');
      return createRedisLocks({ urls: lock.urls, prefix, platform });
    }
    case 'upstash': {
      const { createUpstashLocks } = await import('../../lock/redis/upstash.ts');
      return createUpstashLocks({ endpoints: lock.endpoints, prefix, platform });
    }
    case 'database': {
      const { createDatabaseLocks } = await import('../../lock/database.ts');
      return createDatabaseLocks({ leases, prefix, platform });
    }
  }
}
