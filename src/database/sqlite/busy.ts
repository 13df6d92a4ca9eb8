import { setTimeout as delay } from 'node:timers/promises';

/** What SQLite may wait for a lock by itself, in milliseconds: the whole process stands still meanwhile. */
export const BLOCKING_WAIT_MS: number = 10;

/** How long to go on asking while another process holds the database, and how time passes meanwhile. */
export interface Patience {
  /** Milliseconds. */
  readonly timeoutMs: number;
  /** Milliseconds from any fixed point; never runs backwards. */
  now(): number;
  sleep(milliseconds: number): Promise<void>;
  /** In [0, 1). */
  random(): number;
}

/** Real time, until `timeoutMs` have passed. */
export function patienceOf(timeoutMs: number): Patience {
  return {
    timeoutMs,
    now: () => performance.now(),
    sleep: async (milliseconds) => {
      await delay(milliseconds);
    },
    random: () => Math.random(),
  };
}

/**
 * Runs `attempt` until it does not meet a database locked by somebody else, or time is up. Between attempts
 * the event loop is free: SQLite's own busy timeout would stop every other request of the process.
 *
 * @throws what the last attempt threw
 */
export async function patiently<Result>(patience: Patience, attempt: () => Result): Promise<Result> {
  const deadline = patience.now() + patience.timeoutMs;
  for (;;) {
    try {
      return attempt();
    } catch (error) {
      if (!isLocked(error) || patience.now() >= deadline) throw error;
    }
    await patience.sleep(5 + 20 * patience.random());
  }
}

/** Primary result codes of SQLite (https://sqlite.org/rescode.html). */
export const SqliteCode = {
  busy: 5,
  locked: 6,
  readOnly: 8,
  corrupt: 11,
  full: 13,
  cannotOpen: 14,
  notADatabase: 26,
} as const;

/** The primary result code of an error thrown by node:sqlite; null for any other error. */
export function sqliteCodeOf(error: unknown): number | null {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return null;
  return error.errcode & 0xff;
}

function isLocked(error: unknown): boolean {
  const code = sqliteCodeOf(error);
  return code === SqliteCode.busy || code === SqliteCode.locked;
}
