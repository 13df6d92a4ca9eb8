import type { CacheServices } from '../services.ts';
import type { WorkLock, WorkLocks } from '../work-lock.ts';

export interface WaitForOtherParts {
  readonly platform: Pick<CacheServices['platform'], 'clock' | 'random'>;
  readonly locks: WorkLocks;
  readonly key: string;
  /** The longest that is waited, in milliseconds. */
  readonly waitMs: number;
  /** One look at the storage. */
  readonly isStored: () => Promise<boolean>;
  readonly signal: AbortSignal;
}

type Found = { readonly kind: 'stored' } | WorkLock;

const STORED = { kind: 'stored' } as const;

/** When the storage is looked at, as parts of the whole wait: soon at first, and seldom after. Their sum is 1. */
const LOOKS = [0.01, 0.02, 0.04, 0.07, 0.1, 0.13, 0.15, 0.16, 0.16, 0.16];

/** What comes in of a body in a second, as is assumed of another instance's upstream. Bytes. */
const ASSUMED_BYTES_PER_SECOND = 16 * 1024 * 1024;
/** A NAR seldom compresses to less than this part of itself. */
const LEAST_ENCODED = 1 / 4;

/**
 * Whether a body can arrive elsewhere before the wait is over. One that cannot is read from the upstream at once: in the
 * end the client would be given the same, and would have waited for nothing.
 *
 * @param body.fileSize bytes of the encoded body, null where unknown; `narSize` of the NAR in it
 */
export function isWorthWaiting(
  body: { readonly fileSize: number | null; readonly narSize: number },
  waitMs: number,
): boolean {
  return (body.fileSize ?? body.narSize * LEAST_ENCODED) <= (waitMs / 1000) * ASSUMED_BYTES_PER_SECOND;
}

/**
 * Waits until the body that another instance fetches is in storage. Two things tell: the lock, which comes to one of
 * those who wait when its holder is done or dead, and the storage, at which all of them look by themselves, so that
 * nobody stands in a queue for the lock.
 *
 * @returns `stored`; the lock, where its holder ended without storing anything; `taken` where the time ran out
 * @throws the signal's reason
 */
export async function waitForOther(parts: WaitForOtherParts): Promise<Found> {
  const { platform, locks, key, waitMs, isStored } = parts;
  const over = new AbortController();
  const signal = AbortSignal.any([parts.signal, over.signal]);

  async function told(): Promise<Found | null> {
    const lock = await locks.take(key, waitMs, signal);
    if (lock.kind !== 'held') return null;
    if (!(await isStored())) return lock;
    void lock.release();
    return STORED;
  }

  async function seen(): Promise<Found | null> {
    for (const part of LOOKS) {
      await platform.clock.sleep(waitMs * part * (0.8 + 0.4 * platform.random()), signal);
      if (await isStored()) return STORED;
    }
    return null;
  }

  const telling = told();
  const found = await firstOf([telling, seen()]);
  over.abort();
  const inVain = parts.signal.aborted;
  // Both may have come at once, or it came when nobody wanted it any more: a lock that nobody uses goes back.
  void telling.then(
    (late) => (late?.kind === 'held' && (inVain || late !== found) ? late.release() : undefined),
    () => undefined,
  );
  parts.signal.throwIfAborted();
  return found ?? { kind: 'taken' };
}

/** What the first of them finds out; null where none does. */
async function firstOf(ways: readonly Promise<Found | null>[]): Promise<Found | null> {
  const finding = ways.map(async (way) => {
    const found = await way;
    if (found === null) throw new Error('Nothing was found out');
    return found;
  });
  return await Promise.any(finding).catch(() => null);
}
