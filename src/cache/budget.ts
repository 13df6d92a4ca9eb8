/**
 * A bounded amount of something (bytes of memory, bytes of spool space) shared by every transfer of
 * the process (law 7). Nobody waits for room: who finds none does without.
 */
export interface Budget {
  /** In bytes, at this moment. */
  readonly reserved: number;
  /** Takes `bytes`, or returns null where they do not fit. */
  reserve(bytes: number): Reservation | null;
}

export interface Reservation {
  readonly bytes: number;
  /** Gives the bytes back; a second call does nothing. */
  release(): void;
}

/**
 * @param limit in bytes
 * @param onChange called with the bytes reserved after each change
 */
export function createBudget(limit: number, onChange: (reserved: number) => void = () => undefined): Budget {
  let reserved = 0;
  return {
    get reserved() {
      return reserved;
    },
    reserve(bytes) {
      if (reserved + bytes > limit) return null;
      reserved += bytes;
      onChange(reserved);
      let released = false;
      return {
        bytes,
        release() {
          if (released) return;
          released = true;
          reserved -= bytes;
          onChange(reserved);
        },
      };
    },
  };
}
