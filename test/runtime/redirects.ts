import { describe, expect, it } from 'vitest';
import { download } from '../support/download.ts';
import type { RuntimeContract } from './runtime.contract.ts';
import { until } from '../support/test-cache.ts';
import { fetchFollowing, store, useSite } from './site.ts';
import type { Published, Site } from './site.ts';

const SIZE = 600_000;

/** SNOWCAP_NAR_DELIVERY=redirect. */
export function testRedirects(contract: RuntimeContract): void {
  const reason = contract.unsupported?.redirects ?? null;
  describe.skipIf(reason !== null)(`redirects${reason === null ? '' : ` (${reason})`}`, () => {
    const site = useSite(contract, { delivery: 'redirect' });

    it('leads to the storage for a stored NAR, which is whole and right there', async () => {
      const { snowcap, upstream, publish } = site();
      const path = await publish({ name: 'redirected', size: SIZE });
      await storeForRedirects(site(), path);
      const asked = upstream.requests.length;
      const answer = await fetchFollowing(`${snowcap.url}${path.narRoute}`);
      expect(answer.redirects.map(({ status }) => status)).toEqual([307]);
      expect(answer.redirects[0]?.headers['cache-control']).toBe('private, no-store');
      expect(answer.redirects[0]?.bytes.length).toBe(0);
      const { location = '' } = answer.redirects[0]?.headers ?? {};
      expect([snowcap.url, upstream.url]).not.toContain(new URL(location, snowcap.url).origin);
      expect(answer).toMatchObject({ status: 200, ended: 'clean', size: path.body.length });
      expect(answer.sha256).toBe(path.sha256);
      expect(upstream.requests.length).toBe(asked);
    });

    it('keeps a range through the redirect', async () => {
      const { snowcap, publish } = site();
      const path = await publish({ name: 'redirected-in-parts', size: SIZE });
      await storeForRedirects(site(), path);
      for (const [range, start, end] of [
        ['bytes=1000-300999', 1000, 301_000],
        [`bytes=${path.body.length - 5}-`, path.body.length - 5, path.body.length],
      ] as const) {
        const first = await download(`${snowcap.url}${path.narRoute}`, { headers: { Range: range } });
        expect(first.status).toBe(307);
        const part = await download(first.headers.location ?? '', { headers: { Range: range } });
        expect(part).toMatchObject({ status: 206, ended: 'clean' });
        expect(part.bytes.equals(path.body.subarray(start, end))).toBe(true);
      }
    });

    it('never redirects a HEAD, nor what the client has already', async () => {
      const { snowcap, publish } = site();
      const path = await publish({ name: 'redirected-head', size: SIZE });
      await storeForRedirects(site(), path);
      const head = await download(`${snowcap.url}${path.narRoute}`, { method: 'HEAD' });
      expect(head).toMatchObject({ status: 200, ended: 'clean' });
      expect(head.headers.location).toBeUndefined();
      const { etag = 'no etag' } = head.headers;
      const unchanged = await download(`${snowcap.url}${path.narRoute}`, {
        headers: { 'If-None-Match': etag },
      });
      expect(unchanged.status).toBe(304);
    });

    it('gives a cold NAR whole and right, whichever way', async () => {
      const { snowcap, publish } = site();
      const path = await publish({ name: 'redirected-cold', size: SIZE });
      await download(`${snowcap.url}${path.narInfoRoute}`);
      const answer = await fetchFollowing(`${snowcap.url}${path.narRoute}`);
      expect(answer).toMatchObject({ status: 200, ended: 'clean', size: path.body.length });
      expect(answer.sha256).toBe(path.sha256);
    });

    it('answers 404 for what is nowhere, never a redirect', async () => {
      const { snowcap } = site();
      const answer = await download(`${snowcap.url}/nar/${'0'.repeat(52)}.nar.xz`);
      expect(answer.status).toBe(404);
      expect(answer.headers.location).toBeUndefined();
    });
  });
}

/** A NAR may be given from the fill under way before it lies in the storage. */
async function storeForRedirects(site: Site, path: Published): Promise<void> {
  await store(site, path);
  await until(
    async () => (await fetchFollowing(`${site.snowcap.url}${path.narRoute}`)).redirects.length > 0,
    () => `${path.narRoute} was not redirected`,
    30_000,
  );
}
