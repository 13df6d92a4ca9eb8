import type { Context, ErrorHandler } from 'hono';
import { CacheError } from '../cache/errors.ts';
import { faultOf } from '../cache/faults.ts';
import { answerBytes } from './answer.ts';
import type { AppEnv } from './env.ts';

/**
 * The one shape of an error: `{"error":{"code","message","request"}}` for those who ask for JSON, else one
 * line of text with the same. Never cached.
 */
export function answerError(
  c: Context<AppEnv>,
  status: number,
  code: string,
  message: string,
  headers: Readonly<Record<string, string>> = {},
): Response {
  const request = c.get('note').id;
  const json = c.req.header('accept')?.includes('application/json') === true;
  const body = json
    ? JSON.stringify({ error: { code, message, request } })
    : `${code}: ${message} (request ${request})\n`;
  const type = json ? 'application/json' : 'text/plain; charset=utf-8';
  return answerBytes(c, status, { 'Content-Type': type, 'Cache-Control': 'no-store', ...headers }, body);
}

/** 404: every source that counts said no (law 5). */
export function answerMissing(c: Context<AppEnv>, what: string): Response {
  return answerError(
    c,
    404,
    'not_found',
    `${what} is not in this cache nor in its upstreams, or may not be served`,
  );
}

/** Maps what the use cases throw to a status, in one place. Anything else is a fault of our own: 500. */
export const onError: ErrorHandler<AppEnv> = (thrown, c) => {
  const error = thrown instanceof CacheError ? thrown : faultOf(thrown);
  const note = c.get('note');
  note.outcome = 'error';
  note.error = error;
  if (error.code === 'internal_error') return answerError(c, 500, error.code, error.message);
  switch (error.kind) {
    case 'fault':
      return answerError(c, 502, error.code, error.message);
    case 'timeout':
      return answerError(c, 504, error.code, error.message);
    case 'busy':
      return answerError(c, 503, error.code, error.message, { 'Retry-After': retryAfter(error) });
    // One of the few statuses with which Nix does not try again.
    case 'limit':
      return answerError(c, 501, error.code, error.message);
  }
};

/** Seconds. A body that is fetched elsewhere takes longer than a transfer that ends. */
function retryAfter(error: CacheError): string {
  return error.code === 'fill_scheduled' ? '5' : '1';
}
