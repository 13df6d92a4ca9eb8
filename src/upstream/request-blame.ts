/**
 * Statuses from 400 to 499 that say nothing about how the request was put: who may ask at all (401, 402, 403, 407),
 * what is there (404, 410), how busy the server is (408, 429).
 */
const OTHER_REASONS: ReadonlySet<number> = new Set([401, 402, 403, 404, 407, 408, 410, 429]);

/**
 * Whether the status blames the request (RFC 9110 §15.5: 400, 405, 414 and the like; 431 of RFC 6585). The server is
 * well then: another request may go well there.
 */
export function blamesRequest(status: number): boolean {
  return status >= 400 && status < 500 && !OTHER_REASONS.has(status);
}
