import type { Context } from 'hono';
import { answerBytes, answerEmpty } from '../answer.ts';
import { ifNoneMatchHits } from '../conditions.ts';
import type { AppEnv, AppOptions } from '../env.ts';
import { answerMissing } from '../errors.ts';

/** `GET /<hash>.narinfo` */
export async function narInfoRoute(
  c: Context<AppEnv>,
  { cache, narInfoMaxAge }: AppOptions,
  hash: string,
): Promise<Response> {
  const note = c.get('note');
  note.route = 'narinfo';
  const answer = await cache.getNarInfo(hash);
  note.outcome = answer.outcome;
  if (answer.kind === 'missing') return answerMissing(c, `A store path with hash ${hash}`);
  const headers = {
    'Content-Type': 'text/x-nix-narinfo',
    'Cache-Control': `public, max-age=${narInfoMaxAge}`,
    ETag: answer.narInfo.etag,
  };
  if (ifNoneMatchHits(c.req.header('if-none-match'), answer.narInfo.etag))
    return answerEmpty(c, 304, headers);
  const { text, bytes } = answer.narInfo;
  return answerBytes(c, 200, headers, text, bytes.length);
}
