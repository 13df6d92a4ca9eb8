/** How often a statement is tried in all, and the longest pauses between, in milliseconds. */
const PAUSES = [40, 160];

/**
 * Tries again, after a short random pause, what failed for a reason that passes: a deadlock, a lost connection.
 * Only for what may be done twice, as every operation of the index may.
 *
 * @throws what the last attempt threw
 */
export async function retried<Result>(
  attempt: () => Promise<Result>,
  passes: (error: unknown) => boolean,
): Promise<Result> {
  for (const pause of PAUSES) {
    try {
      return await attempt();
    } catch (error) {
      if (!passes(error)) throw error;
    }
    // At random, so that those who met in a deadlock do not meet again.
    await new Promise((resolve) => setTimeout(resolve, pause * (0.5 + Math.random() / 2)));
  }
  return await attempt();
}

/** The `code` of an error of the system or of a driver, as `ECONNRESET` or `40P01`; null for any other error. */
export function codeOf(error: unknown): string | null {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return null;
  return error.code;
}

/**
 * The promise, or the error if it has not come in time. What comes later is nobody's, also if it fails.
 *
 * @param late called when time is up, before the error is thrown
 */
export async function inTime<Result>(
  promise: PromiseLike<Result>,
  milliseconds: number,
  late: () => Error,
): Promise<Result> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const deadline = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(late());
    }, milliseconds);
  });
  try {
    return await Promise.race([promise, deadline]);
  } finally {
    clearTimeout(timer);
  }
}

/** That the server has said nothing for so long. */
export function silence(milliseconds: number): Error {
  return Object.assign(new Error(`the server has not answered for ${milliseconds} ms`), {
    code: 'ETIMEDOUT',
  });
}

/** Codes of the system and of the drivers for a server that is not there now, full, starting or ending. */
const OUTAGES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EAI_AGAIN',
  'CONNECT_TIMEOUT',
  'CONNECTION_CLOSED',
  '53300',
  '57P01',
  '57P03',
  'PROTOCOL_CONNECTION_LOST',
  'ER_CON_COUNT_ERROR',
  'ER_SERVER_SHUTDOWN',
]);

/** Whether a server could not be reached, which tells nothing of what it would have said. */
export function isOutage(error: unknown): boolean {
  return OUTAGES.has(codeOf(error) ?? '');
}
