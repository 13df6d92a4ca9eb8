import type { Context } from 'hono';
import { answerBytes } from '../answer.ts';
import type { AppEnv, AppOptions } from '../env.ts';
import { answerMissing } from '../errors.ts';

/** `GET /<hash>.ls` */
export async function listingRoute(
  c: Context<AppEnv>,
  { cache }: AppOptions,
  hash: string,
): Promise<Response> {
  const note = c.get('note');
  note.route = 'listing';
  const answer = await cache.getListing(hash);
  if (answer.kind === 'missing') {
    note.outcome = 'missing';
    return answerMissing(c, `A listing of the store path with hash ${hash}`);
  }
  note.outcome = answer.outcome;
  const headers = { 'Content-Type': 'application/json', 'Cache-Control': 'public, max-age=86400' };
  return answerBytes(c, 200, headers, answer.bytes);
}
