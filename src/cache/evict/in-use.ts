import type { ReservationExpiry } from '../budget.ts';

/** The keys of the bodies that this process reads out of the storage or fills: an eviction leaves them alone. */
export interface KeysInUse {
  /** @returns ends it; a second call does nothing */
  hold(key: string): () => void;
  has(key: string): boolean;
  /** Keys held now. */
  readonly size: number;
}

interface Use {
  holders: number;
  /** Of the last one that came; milliseconds since the epoch. */
  since: number;
}

/** @param expiry none where whoever holds is sure to let go */
export function createKeysInUse(expiry?: ReservationExpiry): KeysInUse {
  /** With an expiry, in the order in which they were held last. */
  const uses = new Map<string, Use>();

  /** Those whose request was ended from outside: nobody lets go of them. */
  function forgetLost({ now, afterMs }: ReservationExpiry): void {
    for (const [key, { since }] of uses) {
      if (now() - since < afterMs) return;
      uses.delete(key);
    }
  }

  return {
    get size() {
      return uses.size;
    },
    hold(key) {
      if (expiry !== undefined) forgetLost(expiry);
      const use = uses.get(key) ?? { holders: 0, since: 0 };
      use.holders += 1;
      if (expiry !== undefined) {
        use.since = expiry.now();
        uses.delete(key);
      }
      uses.set(key, use);
      let held = true;
      return () => {
        if (!held) return;
        held = false;
        use.holders -= 1;
        // It may have been forgotten, and be held by others since.
        if (use.holders === 0 && uses.get(key) === use) uses.delete(key);
      };
    },
    has(key) {
      if (expiry !== undefined) forgetLost(expiry);
      return uses.has(key);
    },
  };
}
