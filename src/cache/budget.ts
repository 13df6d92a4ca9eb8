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

/** For a process whose requests may be ended from outside, so that nobody releases what they have. */
export interface ReservationExpiry {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Milliseconds after which a reservation that stands in the way is taken for lost. */
  readonly afterMs: number;
}

/**
 * @param limit in bytes
 * @param onChange called with the bytes reserved after each change
 * @param expiry none where whoever reserves is sure to release
 */
export function createBudget(
  limit: number,
  onChange: (reserved: number) => void = () => undefined,
  expiry?: ReservationExpiry,
): Budget {
  let reserved = 0;
  /** In the order in which they were made, with the time of that. */
  const held = new Map<Reservation, number>();

  function giveBack(reservation: Reservation): void {
    if (!held.delete(reservation)) return;
    reserved -= reservation.bytes;
    onChange(reserved);
  }

  function releaseLost({ now, afterMs }: ReservationExpiry): void {
    for (const [reservation, madeAt] of held) {
      if (now() - madeAt < afterMs) return;
      giveBack(reservation);
    }
  }

  return {
    get reserved() {
      return reserved;
    },
    reserve(bytes) {
      if (reserved + bytes > limit && expiry !== undefined) releaseLost(expiry);
      if (reserved + bytes > limit) return null;
      reserved += bytes;
      const reservation: Reservation = { bytes, release: () => giveBack(reservation) };
      held.set(reservation, expiry?.now() ?? 0);
      onChange(reserved);
      return reservation;
    },
  };
}
