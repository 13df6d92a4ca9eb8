import type { Config } from '../../config/config.ts';
import type { LockManager } from '../../lock/lock-manager.ts';
import type { Platform } from '../../platform.ts';

/** @throws Error where they cannot be had; that a lock service does not answer now is no reason not to start (law 6) */
export async function openLocks(config: Config, platform: Platform): Promise<LockManager> {
  const { lock } = config;
  switch (lock.kind) {
    case 'local': {
      const { createLocalLocks } = await import('../../lock/local.ts');
      return createLocalLocks({ clock: platform.clock });
    }
    case 'redis':
    case 'upstash':
    case 'database':
      throw new Error(`There is no driver for ${lock.kind} locks on Node`);
  }
}
