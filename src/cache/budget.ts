/**
 * A bounded amount of something (bytes of memory, bytes of spool space) shared by every transfer of
 * the process (law 7). Nobody waits for room: who finds none does without.
 */
export interface Budget {
  /** In bytes, at this moment. */
  readonly reserved: number;
  /** Takes `bytes`, or returns null where they do not fit. */
  reserve(bytes: number): Reservation | null;
  /**
   * The same for who has another way: leaves an eighth of the whole to those who have none, as bodies that pass through
   * unsaved because there was no room to store them.
   */
  reserveIfAmple(bytes: number): Reservation | null;
}

const LEFT_BY_OTHERS = 1 / 8;

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

  function reserve(bytes: number, most: number): Reservation | null {
    if (reserved + bytes > most && expiry !== undefined) releaseLost(expiry);
    if (reserved + bytes > most) return null;
    reserved += bytes;
    const reservation: Reservation = { bytes, release: () => giveBack(reservation) };
    held.set(reservation, expiry?.now() ?? 0);
    onChange(reserved);
    return reservation;
  }

  return {
    get reserved() {
      return reserved;
    },
    reserve: (bytes) => reserve(bytes, limit),
    reserveIfAmple: (bytes) => reserve(bytes, limit * (1 - LEFT_BY_OTHERS)),
  };
}
