import type { UpstreamSettings } from './settings.ts';

/** Milliseconds to wait before the attempt after the `failed`-th one (counted from 1): full jitter. */
export function backoffMs(
  failed: number,
  random: number,
  { backoffBaseMs, backoffCapMs }: Pick<UpstreamSettings, 'backoffBaseMs' | 'backoffCapMs'>,
): number {
  return Math.round(random * Math.min(backoffCapMs, backoffBaseMs * 2 ** (failed - 1)));
}

/**
 * Milliseconds that a `Retry-After` asks for (RFC 9110 §10.2.3: seconds or an HTTP date).
 *
 * @param now milliseconds since the epoch
 * @returns null where there is none, or none that can be read; never negative
 */
export function retryAfterMs(header: string | undefined, now: number): number | null {
  if (header === undefined) return null;
  const text = header.trim();
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  // The three date forms of RFC 9110 §5.6.7 begin with the name of a day; Date.parse takes much more.
  if (!/^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)/.test(text)) return null;
  const at = Date.parse(text.endsWith('GMT') ? text : `${text} GMT`);
  return Number.isNaN(at) ? null : Math.max(0, at - now);
}

/**
 * Whether the same request may go well a moment later. 501 and 505 are 5xx too, but say that it never will.
 */
export function isRetryableStatus(status: number): boolean {
  if (status === 408 || status === 429) return true;
  return status >= 500 && status !== 501 && status !== 505;
}
