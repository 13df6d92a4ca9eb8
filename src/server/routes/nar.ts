import type { Context } from 'hono';
import type { NarBody, NarRequest } from '../../cache/get-nar.ts';
import type { ByteRange } from '../../storage/blob-store.ts';
import { answerBytes, answerEmpty, answerStream } from '../answer.ts';
import { ifNoneMatchHits, ifRangeHolds, parseRange } from '../conditions.ts';
import type { AppEnv, AppOptions } from '../env.ts';
import { answerError, answerMissing } from '../errors.ts';

/** The bytes of a key never change (law 3), so whoever has them may keep them. */
const FOREVER = 'public, max-age=31536000, immutable';

/**
 * `GET` and `HEAD /nar/…`.
 *
 * @param key path of the URL without its first slash
 * @param query with its `?`, or empty
 */
export async function narRoute(
  c: Context<AppEnv>,
  { cache }: AppOptions,
  key: string,
  query: string,
): Promise<Response> {
  const note = c.get('note');
  note.route = 'nar';
  const etag = `"${key.slice('nar/'.length)}"`;
  const headers = { 'Content-Type': 'application/x-nix-nar', 'Accept-Ranges': 'bytes' };
  const unchanged = query === '' && ifNoneMatchHits(c.req.header('if-none-match'), etag);
  if (c.req.raw.method === 'HEAD' || unchanged) {
    const head = await cache.headNar(key, query);
    note.outcome = head.kind === 'missing' ? 'missing' : head.outcome;
    if (head.kind === 'missing') return answerMissing(c, key);
    const known = head.lasting
      ? { ...headers, ETag: etag, 'Cache-Control': FOREVER }
      : { ...headers, 'Cache-Control': 'no-store' };
    if (unchanged) return answerEmpty(c, 304, known);
    return answerEmpty(
      c,
      200,
      head.size === null ? known : { ...known, 'Content-Length': String(head.size) },
    );
  }
  const range = ifRangeHolds(c.req.header('if-range'), etag) ? parseRange(c.req.header('range')) : null;
  const answer = await cache.getNar(new RequestedNar(c.req.raw, key, query, range));
  switch (answer.kind) {
    case 'missing':
      note.outcome = 'missing';
      return answerMissing(c, key);
    case 'unsatisfiable':
      note.outcome = 'unsatisfiable';
      return answerError(c, 416, 'range_not_satisfiable', `The range lies beyond the end of ${key}`, {
        'Content-Range': `bytes */${answer.size ?? '*'}`,
        'Accept-Ranges': 'bytes',
      });
    case 'redirect':
      note.outcome = answer.outcome;
      // The client repeats its Range there. Nobody keeps it: the URL works for a short while only.
      return answerEmpty(c, 307, { Location: answer.url, 'Cache-Control': 'private, no-store' });
    case 'body':
      note.outcome = answer.outcome;
      return await answerBody(c, answer, { ...headers, ...validators(answer, etag) });
  }
}

async function answerBody(
  c: Context<AppEnv>,
  answer: NarBody,
  headers: Readonly<Record<string, string>>,
): Promise<Response> {
  const { range, size, body } = answer;
  const status = range === null ? 200 : 206;
  const length = range === null ? size : range.end - range.start + 1;
  const all = {
    ...headers,
    ...(range === null ? {} : { 'Content-Range': `bytes ${range.start}-${range.end}/${size ?? '*'}` }),
  };
  if (body.kind === 'bytes') return answerBytes(c, status, all, body.bytes);
  const known = length === null ? all : { ...all, 'Content-Length': String(length) };
  return await answerStream(c, status, known, body.stream);
}

/** What passes through unsaved may be what no path vouches for: nobody shall keep it. */
function validators(answer: NarBody, etag: string): Readonly<Record<string, string>> {
  if (answer.outcome === 'upstream') return { 'Cache-Control': 'no-store' };
  return { 'Cache-Control': FOREVER, ETag: etag };
}

/** Its signal is made only where it is looked at: a hit needs none. */
class RequestedNar implements NarRequest {
  readonly key: string;
  readonly query: string;
  declare readonly range?: ByteRange;
  readonly #request: Request;

  constructor(request: Request, key: string, query: string, range: ByteRange | null) {
    this.key = key;
    this.query = query;
    if (range !== null) this.range = range;
    this.#request = request;
  }

  // Of the class, since one in a literal would make a shape of its own for each request, dearer than all the rest of it.
  get signal(): AbortSignal {
    return this.#request.signal;
  }
}
