import { Hono } from 'hono';
import { isStorePathHash } from '../nix/store-path.ts';
import type { AppEnv, AppOptions } from './env.ts';
import { answerError, onError } from './errors.ts';
import { observe } from './observe.ts';
import { cacheInfoRoute, homeRoute, publicKeyRoute } from './routes/about.ts';
import { aliveRoute, metricsRoute, readyRoute } from './routes/health.ts';
import { listingRoute } from './routes/listing.ts';
import { narRoute } from './routes/nar.ts';
import { narInfoRoute } from './routes/nar-info.ts';
import { deletePinRoute, getPinRoute, listPinsRoute, putPinRoute } from './routes/pins.ts';

/**
 * The whole HTTP side as one `fetch` handler. A HEAD is answered by the route of the GET: hono drops the
 * body, and routes that would be dear look at the method themselves.
 */
export function createApp(options: AppOptions): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.use(observe(options.platform));
  app.onError(onError);
  app.get('/', (c) => homeRoute(c, options));
  app.get('/nix-cache-info', (c) => cacheInfoRoute(c, options));
  app.get('/pubkey', (c) => publicKeyRoute(c, options));
  app.get('/healthz', (c) => aliveRoute(c));
  app.get('/readyz', (c) => readyRoute(c, options));
  app.get('/metrics', (c) => metricsRoute(c, options));
  app.get('/pins', (c) => listPinsRoute(c, options));
  app.get('/pins/:name', (c) => getPinRoute(c, options, c.req.param('name')));
  app.put('/pins/:name', (c) => putPinRoute(c, options, c.req.param('name')));
  app.delete('/pins/:name', (c) => deletePinRoute(c, options, c.req.param('name')));
  app.get('/nar/*', async (c, next) => {
    const { path, query } = rawTarget(c.req.url);
    if (CLIMBING.test(path)) return await next();
    return await narRoute(c, options, path.slice(1), query);
  });
  // Not `/:file`: beside fixed first segments only a wildcard lets hono put all routes into one regular expression.
  app.get('/*', async (c, next) => {
    const file = c.req.path.slice(1);
    const hash = file.slice(0, 32);
    if (file.length === 40 && file.endsWith('.narinfo') && isStorePathHash(hash)) {
      return await narInfoRoute(c, options, hash);
    }
    if (file.length === 35 && file.endsWith('.ls') && isStorePathHash(hash)) {
      return await listingRoute(c, options, hash);
    }
    return await next();
  });
  app.notFound((c) => {
    c.get('note').outcome = 'missing';
    if (c.req.method === 'GET' || c.req.method === 'HEAD') {
      return answerError(c, 404, 'not_found', `There is nothing at ${c.req.path}`);
    }
    return answerError(c, 405, 'read_only', 'This cache takes no uploads', { Allow: 'GET, HEAD' });
  });
  return app;
}

/** `.` or `..` as a segment of a path, plainly or escaped: nothing of that kind goes to an upstream. */
const CLIMBING = /(?:[/\\]|%2f|%5c)(?:\.|%2e){1,2}(?:[/\\]|%2f|%5c|$)/i;

/** Path and query as they were sent: upstreams may need their escapes. */
function rawTarget(url: string): { readonly path: string; readonly query: string } {
  const start = url.indexOf('/', url.indexOf('://') + 3);
  const question = url.indexOf('?', start);
  const path = question === -1 ? url.slice(start) : url.slice(start, question);
  return { path, query: question === -1 ? '' : url.slice(question) };
}
