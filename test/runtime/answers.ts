import { createPublicKey, verify } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { download } from '../support/download.ts';
import { narInfoField, narInfoLines } from '../support/upstream-cache.ts';
import type { NarInfoLines } from '../support/upstream-cache.ts';
import type { Site } from './site.ts';

/** The small answers: what a cache says of itself and of its paths, and what it says no to. */
export function testAnswers(site: () => Site): void {
  describe('answers', () => {
    it('says what it is', async () => {
      const { snowcap } = site();
      const answer = await download(`${snowcap.url}/nix-cache-info`);
      expect(answer).toMatchObject({ status: 200, ended: 'clean' });
      const lines = answer.bytes.toString().split('\n');
      expect(lines).toContain('StoreDir: /nix/store');
      expect(lines).toContain('WantMassQuery: 1');
      expect(lines.some((line) => /^Priority: \d+$/.test(line))).toBe(true);
    });

    it('says which key it signs with', async () => {
      const { snowcap } = site();
      const answer = await download(`${snowcap.url}/pubkey`);
      expect(answer.status).toBe(200);
      expect(answer.bytes.toString().trim()).toBe(snowcap.publicKey);
    });

    it('gives a narinfo that it did not have, signed by the upstream and by itself', async () => {
      const { snowcap, upstream, publish } = site();
      const path = await publish({ name: 'asked-first' });
      const answer = await download(`${snowcap.url}${path.narInfoRoute}`);
      expect(answer).toMatchObject({ status: 200, ended: 'clean' });
      expect(answer.headers['content-type']).toBe('text/x-nix-narinfo');
      const lines = narInfoLines(answer.bytes.toString());
      expect(narInfoField(lines, 'StorePath')).toBe(path.storePath);
      expect(narInfoField(lines, 'NarHash')).toBe(path.narHash);
      expect(`/${narInfoField(lines, 'URL')}`).toBe(path.narRoute);
      expect(lines.filter(([key]) => key === 'Sig').length).toBe(2);
      expect(isSignedBy(lines, snowcap.publicKey)).toBe(true);
      expect(upstream.requestsTo(path.narInfoRoute, 'GET').length).toBe(1);
    });

    it('gives the same narinfo again, without asking for it', async () => {
      const { snowcap, upstream, publish } = site();
      const path = await publish({ name: 'asked-again' });
      const first = await download(`${snowcap.url}${path.narInfoRoute}`);
      const again = await download(`${snowcap.url}${path.narInfoRoute}`);
      expect(again).toMatchObject({ status: 200, ended: 'clean' });
      expect(again.bytes.toString()).toBe(first.bytes.toString());
      expect(upstream.requestsTo(path.narInfoRoute, 'GET').length).toBe(1);

      const { etag = '' } = again.headers;
      const unchanged = await download(`${snowcap.url}${path.narInfoRoute}`, {
        headers: { 'If-None-Match': etag },
      });
      expect(unchanged).toMatchObject({ status: 304, ended: 'clean' });
      expect(unchanged.bytes.length).toBe(0);
    });

    it('answers HEAD for a narinfo, with its length and without its text', async () => {
      const { snowcap, publish } = site();
      const path = await publish({ name: 'looked-at' });
      const head = await download(`${snowcap.url}${path.narInfoRoute}`, { method: 'HEAD' });
      const { bytes } = await download(`${snowcap.url}${path.narInfoRoute}`);
      expect(head).toMatchObject({ status: 200, ended: 'clean' });
      expect(head.bytes.length).toBe(0);
      expect(bytes.length).toBeGreaterThan(0);
      // Some front ends drop the length of an answer without a body; a wrong one they must not make of it.
      expect([undefined, String(bytes.length)]).toContain(head.headers['content-length']);
    });

    it('gives the key a request came with back, in the header and in the text of an error', async () => {
      const { snowcap } = site();
      const headers = { 'X-Request-Id': 'asked-by-a-test' };
      const answer = await download(`${snowcap.url}/nix-cache-info`, { headers });
      expect(answer.headers['x-request-id']).toBe('asked-by-a-test');
      const missing = await download(`${snowcap.url}/${'0'.repeat(32)}.narinfo`, { headers });
      expect(missing.bytes.toString()).toContain('(request asked-by-a-test)');
    });

    it.each([
      ['a path', `/${'0'.repeat(32)}.narinfo`],
      ['a NAR', `/nar/${'0'.repeat(52)}.nar.xz`],
      ['a page', '/no-such-page'],
    ])('answers 404 for %s that is nowhere, which nobody shall keep', async (_, route) => {
      const { snowcap } = site();
      const text = await download(`${snowcap.url}${route}`);
      expect(text).toMatchObject({ status: 404, ended: 'clean' });
      expect(text.headers['cache-control']).toBe('no-store');
      expect(text.bytes.toString()).toMatch(/^not_found: .+ \(request [\w-]+\)\n$/);

      const json = await download(`${snowcap.url}${route}`, { headers: { Accept: 'application/json' } });
      expect(json.status).toBe(404);
      expect(json.headers['content-type']).toBe('application/json');
      expect(JSON.parse(json.bytes.toString())).toMatchObject({ error: { code: 'not_found' } });

      const head = await download(`${snowcap.url}${route}`, { method: 'HEAD' });
      expect(head).toMatchObject({ status: 404, ended: 'clean' });
      expect(head.bytes.length).toBe(0);
    });

    it.each(['POST', 'DELETE'])('answers 405 to %s, and says what it takes', async (method) => {
      const { snowcap } = site();
      const answer = await fetch(`${snowcap.url}/nix-cache-info`, { method });
      expect(answer.status).toBe(405);
      expect(answer.headers.get('allow')).toContain('GET');
      expect(await answer.text()).toMatch(/^[a-z_]+: /);
    });
  });
}

/** Whether one of the signatures is a right one of this key; deliberately not checked by the code under test. */
function isSignedBy(lines: NarInfoLines, publicKey: string): boolean {
  const [name = '', key = ''] = publicKey.split(':');
  const field = (wanted: string): string => narInfoField(lines, wanted);
  const references = field('References')
    .split(' ')
    .filter((reference) => reference !== '')
    .map((reference) => `/nix/store/${reference}`);
  const fingerprint = ['1', field('StorePath'), field('NarHash'), field('NarSize'), references.join(',')];
  const x = Buffer.from(key, 'base64').toString('base64url');
  return lines
    .filter(([field, value]) => field === 'Sig' && value.startsWith(`${name}:`))
    .some(([, value]) =>
      verify(
        null,
        Buffer.from(fingerprint.join(';')),
        createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' }),
        Buffer.from(value.slice(name.length + 1), 'base64'),
      ),
    );
}
