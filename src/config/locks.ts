import type { LockConfig } from './config.ts';
import { parseList, ValueError } from './values.ts';

/** What `SNOWCAP_LOCK` says by itself: the endpoints of `upstash` stand in settings of their own. */
export type LockChoice = Exclude<LockConfig, { readonly kind: 'upstash' }> | { readonly kind: 'upstash' };

const EXPECTED = 'expected "local", "database", "upstash", or URLs as redis://host:6379';
/** Two are no majority when one is lost: they would only fail more often than one. */
const NO_MAJORITY = 'expected one Redis, or three and more: of two, none may be lost';

/** @throws ValueError, ListError */
export async function parseLock(text: string): Promise<LockChoice> {
  if (text === 'local' || text === 'database' || text === 'upstash') return { kind: text };
  const urls = await parseList(text, parseRedisUrl);
  if (urls.length === 0) throw new ValueError(EXPECTED);
  if (urls.length === 2) throw new ValueError(NO_MAJORITY);
  return { kind: 'redis', urls };
}

/** The URL of a Redis that speaks HTTP. @throws ValueError */
export function parseRestUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (
    url === null ||
    !['http:', 'https:'].includes(url.protocol) ||
    url.username !== '' ||
    url.search !== ''
  ) {
    throw new ValueError('expected an http or https URL without credentials, as https://name.upstash.io');
  }
  return url.href.replace(/\/+$/, '');
}

/** Pairs the URLs of Redis over HTTP with their tokens; `load.ts` reports where their numbers do not fit. */
export function upstashLock(urls: readonly string[], tokens: readonly string[]): LockConfig {
  const [first = ''] = tokens;
  return { kind: 'upstash', endpoints: urls.map((url, at) => ({ url, token: tokens[at] ?? first })) };
}

/** What is wrong with these numbers of URLs and tokens; null where nothing is. */
export function upstashProblem(urls: number, tokens: number): string | null {
  if (urls === 0 || tokens === 0)
    return 'expected UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN beside "upstash"';
  if (urls === 2) return NO_MAJORITY;
  if (tokens === 1 || tokens === urls) return null;
  return `expected one token in UPSTASH_REDIS_REST_TOKEN, or as many as URLs (${urls}), not ${tokens}`;
}

function parseRedisUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !['redis:', 'rediss:'].includes(url.protocol) || url.hostname === '') {
    throw new ValueError(EXPECTED);
  }
  if (!/^\/?\d*$/.test(url.pathname))
    throw new ValueError('expected the number of a database as the path, or none');
  return text;
}
