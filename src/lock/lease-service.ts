import type { LeaseStore } from '../database/lease-store.ts';
import type { Platform } from '../platform.ts';

/**
 * Where leases are kept, outside of this process: a Redis, a majority of several, the index. Its methods are those
 * of `LeaseStore`; each may be sent again with the same token. What they throw means that it could not be asked, and
 * says nothing about what became of the request.
 */
export interface LeaseService extends Omit<LeaseStore, 'removeEnded'> {
  /** Calls back with the names of leases that are released, by anybody, as far as it hears of them. */
  onRelease?(listener: (name: string) => void): void;
  close(): Promise<void>;
}

/** What locks need of their runtime. */
export type LockPlatform = Pick<Platform, 'clock' | 'random' | 'logger' | 'metrics' | 'defer'>;

/** What locks of every kind can be told. */
export interface LockOptions {
  readonly platform: LockPlatform;
  /** Milliseconds from any fixed point, never running backwards. @default performance.now */
  readonly monotonic?: () => number;
  /** Makes the token of a lease; each must differ from every other. @default crypto.randomUUID */
  readonly token?: () => string;
  /** How long a lock service may take for an answer, in milliseconds. @default 750 */
  readonly answerMs?: number;
}

/** A lock service that could not be asked, or refused to answer. The message names it, without any secret. */
export class LockServiceError extends Error {
  override readonly name: string = 'LockServiceError';
}

/** It answered that it will not do this: asking once more is in vain. */
export class LockRefusedError extends LockServiceError {
  override readonly name = 'LockRefusedError';
}
