import { LRUCache } from 'lru-cache';
import type { BackgroundVerification } from './fill/background-verification.ts';
import type { CacheServices } from './services.ts';

/**
 * A crash between the storing of a NAR and its index row leaves a whole body that the index does not call present: it
 * is served, but nobody counts it, and its narinfo is missing from the bucket. The first hit of each
 * key in a process looks, after the answer, and has what it finds verified in its turn and adopted.
 */
export interface Adoption {
  /** This key was just answered from storage. */
  hit(key: string): void;
  /** The index has this key as present, or is about to: hits need no look. */
  known(key: string): void;
}

/** The keys that need no look any more in this process. */
export type AdoptionMemory = LRUCache<string, true>;

const MOST_REMEMBERED = 100_000;

export function createAdoptionMemory(): AdoptionMemory {
  return new LRUCache({ max: MOST_REMEMBERED });
}

export function createAdoption(
  { metadata, platform }: Pick<CacheServices, 'metadata' | 'platform'>,
  verification: Pick<BackgroundVerification, 'schedule'>,
  looked: AdoptionMemory,
): Adoption {
  async function look(key: string): Promise<void> {
    // The answer goes first.
    await platform.clock.sleep(0);
    const named = await metadata.getNar(key, 1).catch((error: unknown) => {
      forget(key);
      throw error;
    });
    if (named === null || named.nar.state === 'present' || named.paths.length === 0) return;
    // On its way out: an eviction goes on with it.
    if (named.nar.state === 'evicting') return forget(key);
    platform.logger.info('A stored NAR that the index did not have is adopted', { key });
    verification.schedule(key, () => forget(key));
  }

  /** A fault told nothing: the next hit looks again. */
  function forget(key: string): void {
    looked.delete(key);
  }

  return {
    known(key) {
      looked.set(key, true);
    },
    hit(key) {
      if (looked.has(key)) return;
      looked.set(key, true);
      platform.defer('adopt a NAR', look(key));
    },
  };
}
