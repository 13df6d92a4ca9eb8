import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Cache } from '../../../src/cache/cache.ts';
import type { NarRequest } from '../../../src/cache/get-nar.ts';
import { createApp } from '../../../src/server/app.ts';
import { silentLogger } from '../../../src/telemetry/logger.ts';
import { noMetrics } from '../../../src/telemetry/metrics.ts';
import { systemClock } from '../../../src/telemetry/system-clock.ts';
import { type FaultServer, startFaultServer } from '../../support/fault-server.ts';
import { publish, signedPath } from '../../support/signed-path.ts';
import { startTestCache, type TestCache, until } from '../../support/test-cache.ts';

let upstream: FaultServer;
let snowcap: TestCache;

beforeEach(async () => {
  upstream = await startFaultServer();
  snowcap = await startTestCache({
    upstreams: [upstream.url],
    storage: 'file',
    settings: { narInfoTtlMs: 60_000, negativeTtlMs: 60_000 },
  });
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

/** The fields of the line that was logged for the nth request of a path, once it is there. */
async function lineOf(path: string, nth = 1): Promise<Readonly<Record<string, unknown>>> {
  const lines = (): readonly Readonly<Record<string, unknown>>[] =>
    snowcap.logs
      .filter(({ message, fields }) => message === 'request' && fields['path'] === path)
      .map(({ fields }) => fields);
  await until(() => lines().length >= nth);
  return lines()[nth - 1] ?? {};
}

describe('the page about itself', () => {
  it('is HTML with the lines for nix.conf for browsers', async () => {
    const page = await snowcap.get('/', { headers: { accept: 'text/html,*/*' } });
    expect(page.headers.get('content-type')).toBe('text/html; charset=utf-8');
    const html = await page.text();
    expect(html).toContain(`extra-substituters = ${snowcap.url}`);
    for (const key of snowcap.cache.publicKeys) expect(html).toContain(`extra-trusted-public-keys = ${key}`);
    expect(html).toContain(upstream.url);
  });

  it('is JSON with the same for programs', async () => {
    const answer = await snowcap.get('/');
    expect(answer.headers.get('content-type')).toBe('application/json');
    expect(await answer.json()).toMatchObject({
      name: 'snowcap',
      publicKeys: snowcap.cache.publicKeys,
      upstreams: [{ url: upstream.url }],
      nixConf: { 'extra-substituters': snowcap.url },
    });
  });
});

describe('answers', () => {
  it('may be kept for good where they are NARs, for a stated time where they are narinfos', async () => {
    const path = await signedPath({ compression: 'zstd', size: 10_000 });
    publish(upstream, path);
    const narInfo = await snowcap.get(`/${path.hash}.narinfo`);
    expect(narInfo.headers.get('cache-control')).toBe('public, max-age=60');
    const nar = await snowcap.get(`/${path.url}`);
    expect(nar.headers.get('cache-control')).toBe('public, max-age=31536000, immutable');
    expect(nar.headers.get('etag')).toBe(`"${path.url.slice('nar/'.length)}"`);
    expect(nar.headers.get('accept-ranges')).toBe('bytes');
  });

  it('are an error of one shape, as text or as JSON, and never kept', async () => {
    const text = await snowcap.get('/nothing-here');
    expect(text.status).toBe(404);
    expect(text.headers.get('cache-control')).toBe('no-store');
    expect(await text.text()).toMatch(
      /^not_found: There is nothing at \/nothing-here \(request [0-9a-f-]{36}\)\n$/,
    );
    const json = await snowcap.get('/nothing-here', {
      headers: { accept: 'application/json', 'x-request-id': 'my-request' },
    });
    expect(await json.json()).toEqual({
      error: { code: 'not_found', message: 'There is nothing at /nothing-here', request: 'my-request' },
    });
  });

  it('refuse uploads with 405, the methods that are there, and a reason', async () => {
    const answer = await snowcap.get('/nar/x.nar', { method: 'PUT', body: 'x' });
    expect(answer.status).toBe(405);
    expect(answer.headers.get('allow')).toBe('GET, HEAD');
    expect(await answer.text()).toContain('takes no uploads');
  });

  it.each(['/nar/../x', '/nar/%2e%2e/x', '/nar/a/..%2fx'])('ask no upstream for %s', async (path) => {
    // Raw: fetch would take the dots away itself.
    const answer = await snowcap.get(path.replaceAll('..', '%2E%2E'));
    expect(answer.status).toBe(404);
    expect(upstream.requests.filter(({ path }) => path.includes('x'))).toEqual([]);
  });
});

describe('what a hit is spared', () => {
  const spared = (cache: Partial<Cache>): ReturnType<typeof createApp> =>
    createApp({
      cache: { ...snowcap.cache, ...cache },
      platform: {
        clock: systemClock,
        random: () => 0,
        logger: silentLogger,
        metrics: noMetrics,
        defer: () => undefined,
        fillsOutliveClients: true,
      },
      version: '0',
      narInfoMaxAge: 60,
    });

  it('is a walk through the routes: one regular expression holds them all', async () => {
    const app = spared({});
    await app.request('/nothing-here');
    expect(app.router.name).toBe('SmartRouter + RegExpRouter');
  });

  it('is the signal of its request, and a shape that nothing else has', async () => {
    const requests: NarRequest[] = [];
    const app = spared({
      getNar(request) {
        requests.push(request);
        return Promise.resolve({ kind: 'missing' });
      },
    });
    const left = new AbortController();
    await app.request('/nar/x.nar', { signal: left.signal });
    await app.request('/nar/x.nar', { headers: { range: 'bytes=2-' } });
    expect(requests).toMatchObject([{ key: 'nar/x.nar' }, { key: 'nar/x.nar', range: { start: 2 } }]);
    for (const request of requests) expect(Object.hasOwn(request, 'signal')).toBe(false);
    expect(requests[0]?.signal?.aborted).toBe(false);
    left.abort();
    expect(requests[0]?.signal?.aborted).toBe(true);
  });
});

describe('the line of the log', () => {
  it('says what happened: upstream, memory, fill, hit, negative, with bytes and milliseconds', async () => {
    const path = await signedPath({ compression: 'zstd', size: 10_000 });
    publish(upstream, path);
    const narInfo = `/${path.hash}.narinfo`;
    const text = await (await snowcap.get(narInfo)).text();
    expect(await lineOf(narInfo)).toMatchObject({ method: 'GET', status: 200, outcome: 'upstream' });
    expect((await lineOf(narInfo))['bytes']).toBe(text.length);
    expect((await lineOf(narInfo))['milliseconds']).toBeTypeOf('number');
    await snowcap.get(narInfo);
    expect(await lineOf(narInfo, 2)).toMatchObject({ outcome: 'memory' });
    const nar = await (await snowcap.get(`/${path.url}`)).arrayBuffer();
    expect(await lineOf(`/${path.url}`)).toMatchObject({ outcome: 'fill', bytes: nar.byteLength });
    await snowcap.settled();
    await (await snowcap.get(`/${path.url}`)).arrayBuffer();
    expect(await lineOf(`/${path.url}`, 2)).toMatchObject({ outcome: 'hit', bytes: nar.byteLength });
    const unknown = `/${'0'.repeat(32)}.narinfo`;
    await snowcap.get(unknown);
    expect(await lineOf(unknown)).toMatchObject({ status: 404, outcome: 'missing' });
    await snowcap.get(unknown);
    expect(await lineOf(unknown, 2)).toMatchObject({ status: 404, outcome: 'negative' });
  });
});
