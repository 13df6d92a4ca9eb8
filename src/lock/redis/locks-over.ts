import { guardLeases } from '../guarded-leases.ts';
import { createLeasedLocks } from '../leased-locks.ts';
import type { LockOptions } from '../lease-service.ts';
import type { LockManager } from '../lock-manager.ts';
import type { CommandSender } from './command-sender.ts';
import { createRedisLeases } from './redis-leases.ts';
import { createRedlock } from './redlock.ts';

/** What locks in Redis can be told, whatever the way to it. */
export interface RedisOptions extends LockOptions {
  /** Before each key, so that several caches may share a Redis. @default snowcap: */
  readonly prefix?: string;
}

/**
 * Locks in one Redis, or in a majority of several.
 *
 * @throws Error for two of them, whose majority is both, so that each one is indispensable; and for the same one twice
 */
export function createLocksOver(senders: readonly CommandSender[], options: RedisOptions): LockManager {
  const { prefix = 'snowcap:' } = options;
  const names = senders.map((sender) => sender.description);
  const twice = names.find((name, at) => names.indexOf(name) !== at);
  if (twice !== undefined) throw new Error(`Cannot lock with ${twice} twice: give each Redis once`);
  if (senders.length === 2) {
    throw new Error(`Cannot lock with ${names.join(' and ')}: give one Redis, or three or more`);
  }
  const services = senders.map((sender) => guardLeases(createRedisLeases(sender, prefix), options));
  const [only] = services;
  if (only === undefined) throw new Error('Cannot lock with no Redis: give one, or three or more');
  return createLeasedLocks(services.length === 1 ? only : createRedlock(services, options.platform), options);
}
