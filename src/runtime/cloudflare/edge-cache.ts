import { toReadableStream, withCleanup } from '../../stream/byte-stream.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { WorkerContext } from './bindings.ts';

/** The cache of the data centre (https://developers.cloudflare.com/workers/runtime-apis/cache/). */
declare const caches: {
  readonly default: {
    match(url: string): Promise<Response | undefined>;
    put(url: string, response: Response): Promise<void>;
  };
};

/** The most bytes of a body that is kept there. */
const MOST_BYTES = 256 * 1024;

/** What is kept: narinfos and NARs, under their own URLs without a query. */
const KEPT = /^\/(?:[0-9a-z]{32}\.narinfo|nar\/[^?]+)$/;

/** Where a copy has the `Cache-Control` that clients get: its own one says how long it is kept here. */
const FOR_CLIENTS = 'X-Snowcap-Cache-Control';

export interface EdgeCacheOptions {
  /** Milliseconds that an answer is kept; 0 keeps nothing. */
  readonly ttlMs: number;
  readonly logger: Logger;
}

/**
 * Answers narinfos and small NARs out of the cache of the data centre for a short, stated time. What is deleted here is
 * deleted in no other data centre, so also the bytes of a key, which never change, are kept no longer: a NAR may be
 * found to be wrong. Only whole answers with status 200 are kept, never a fault, a 404 or what passes through unsaved.
 */
export interface EdgeCache {
  /** The answer to this request as it was kept; null where there is none. */
  match(request: Request): Promise<Response | null>;
  /** Keeps a copy where it is one to keep. @returns the answer to give */
  keep(request: Request, response: Response, context: WorkerContext): Response;
}

export function createEdgeCache({ ttlMs, logger }: EdgeCacheOptions): EdgeCache {
  const seconds = Math.ceil(ttlMs / 1000);
  return {
    async match(request) {
      const key = seconds === 0 ? null : keyOf(request);
      if (key === null) return null;
      const kept = await caches.default.match(key).catch(() => undefined);
      if (kept === undefined) return null;
      const headers = new Headers(kept.headers);
      headers.set('Cache-Control', headers.get(FOR_CLIENTS) ?? 'no-store');
      headers.delete(FOR_CLIENTS);
      const id = crypto.randomUUID();
      headers.set('X-Request-Id', id);
      const bytes = Number(headers.get('Content-Length'));
      const path = new URL(key).pathname;
      logger.info('request', { method: 'GET', path, status: 200, outcome: 'edge', bytes, request: id });
      return new Response(kept.body, { status: 200, headers });
    },

    keep(request, response, context) {
      const key = seconds === 0 ? null : keyOf(request);
      if (key === null || !isToBeKept(response) || response.body === null) return response;
      const headers = new Headers(response.headers);
      headers.set(FOR_CLIENTS, headers.get('Cache-Control') ?? 'no-store');
      headers.set('Cache-Control', `public, max-age=${seconds}`);
      headers.delete('X-Request-Id');
      const { given, whole } = copied(response.body, Number(headers.get('Content-Length')));
      const kept = whole.then(async (bytes) => {
        if (bytes !== null) await caches.default.put(key, new Response(bytes, { status: 200, headers }));
      });
      context.waitUntil(kept.catch((error: unknown) => logger.debug('An answer was not kept', { error })));
      return new Response(given, { status: 200, headers: response.headers });
    },
  };
}

/**
 * A body with a copy of it, which is there once the client has the whole. A `tee` will not do: its branches do not tell
 * their length, and of one that breaks off the cache keeps what it had, as a whole (law 1).
 *
 * @returns `whole`: null where it broke off or was left
 */
function copied(
  body: ReadableStream<Uint8Array>,
  length: number,
): { readonly given: ReadableStream<Uint8Array>; readonly whole: Promise<Uint8Array<ArrayBuffer> | null> } {
  const reader = body.getReader();
  const copy = new Uint8Array(length);
  let size = 0;
  const iterator: AsyncIterator<Uint8Array, undefined> = {
    async next() {
      const { done, value } = await reader.read();
      if (done) return { done, value: undefined };
      if (size + value.length <= length) copy.set(value, size);
      size += value.length;
      return { done, value };
    },
    async return() {
      await reader.cancel();
      return { done: true, value: undefined };
    },
  };
  const whole = Promise.withResolvers<Uint8Array<ArrayBuffer> | null>();
  const watched = withCleanup({ [Symbol.asyncIterator]: () => iterator }, (error) => {
    whole.resolve(error === undefined && size === length ? copy : null);
  });
  return { given: toReadableStream(watched, length), whole: whole.promise };
}

/** The URL under which the answer is kept; null for requests whose answer may be another one. */
function keyOf(request: Request): string | null {
  const { headers } = request;
  if (request.method !== 'GET' || headers.has('range') || headers.has('if-none-match')) return null;
  const start = request.url.indexOf('/', request.url.indexOf('://') + 3);
  return KEPT.test(request.url.slice(start)) ? request.url : null;
}

function isToBeKept({ status, headers }: Response): boolean {
  const length = headers.get('Content-Length');
  const open = headers.get('Cache-Control')?.startsWith('public') === true;
  return status === 200 && open && length !== null && Number(length) <= MOST_BYTES;
}
