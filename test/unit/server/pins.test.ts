import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createApp } from '../../../src/server/app.ts';
import { hashToken } from '../../../src/server/admin.ts';
import { type FaultServer, startFaultServer } from '../../support/fault-server.ts';
import { publish, signedPath } from '../../support/signed-path.ts';
import { startTestCache, type TestCache } from '../../support/test-cache.ts';

const TOKEN = 'snowcap_test-token';
const HASH = await hashToken(TOKEN);
const BEARER = { authorization: `Bearer ${TOKEN}` };

let upstream: FaultServer;
let snowcap: TestCache;

beforeEach(async () => {
  upstream = await startFaultServer();
  snowcap = await startTestCache({ upstreams: [upstream.url] });
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

async function ask(path: string, init: RequestInit = {}, tokens?: readonly string[]): Promise<Response> {
  const app = createApp({
    cache: snowcap.cache,
    platform: snowcap.services.platform,
    version: 'test',
    narInfoMaxAge: 60,
    adminTokens: tokens ?? [await hashToken('another'), HASH],
  });
  return await app.request(path, init);
}

function put(name: string, body: unknown, headers: Record<string, string> = BEARER): Promise<Response> {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return ask(`/pins/${name}`, { method: 'PUT', headers, body: text });
}

describe('pins over HTTP', () => {
  it.each([
    ['nothing', {}],
    ['another token', { authorization: 'Bearer nope' }],
    ['the hash of the token', { authorization: `Bearer ${HASH}` }],
    ['another scheme', { authorization: `Digest ${TOKEN}` }],
    ['a broken pair', { authorization: 'Basic %%%' }],
    ['a token as the name', { authorization: `Basic ${btoa(`${TOKEN}:`)}` }],
  ])('are refused with %s', async (_case, headers) => {
    for (const [method, path] of [
      ['GET', '/pins'],
      ['GET', '/pins/x'],
      ['PUT', '/pins/x'],
      ['DELETE', '/pins/x'],
    ] as const) {
      const answer = await ask(path, { method, headers });
      expect(answer.status).toBe(401);
      expect(answer.headers.get('www-authenticate')).toContain('Bearer');
      expect(await answer.text()).not.toContain(TOKEN);
    }
    // Nor does it get into the log (law 10).
    expect(JSON.stringify(snowcap.logs)).not.toContain(TOKEN);
  });

  it('are refused where there is no administrator at all', async () => {
    expect((await ask('/pins', { headers: BEARER }, [])).status).toBe(403);
  });

  it('are put, listed, looked at and deleted with a token, also as the password of a netrc', async () => {
    const path = await signedPath();
    publish(upstream, path);
    const basic = { authorization: `Basic ${btoa(`somebody:${TOKEN}`)}` };
    const made = await put('release', { storePath: path.storePath, ttlSeconds: 3600 }, basic);
    expect(made.status).toBe(200);
    expect(made.headers.get('cache-control')).toBe('no-store');
    expect(await made.json()).toMatchObject({ name: 'release', paths: 1, absentPaths: 1, missing: [] });
    const got = (await (await ask('/pins/release', { headers: BEARER })).json()) as Record<string, string>;
    expect(Date.parse(got['expiresAt'] ?? '') - Date.parse(got['createdAt'] ?? '')).toBeGreaterThan(
      3_590_000,
    );
    expect(await (await ask('/pins', { headers: BEARER })).json()).toEqual({ pins: [got] });
    expect((await ask('/pins/release', { method: 'DELETE', headers: BEARER })).status).toBe(200);
    expect((await ask('/pins/release', { method: 'DELETE', headers: BEARER })).status).toBe(404);
    expect((await ask('/pins/release', { headers: BEARER })).status).toBe(404);
  });

  it('have what is missing downloaded afterwards', async () => {
    const path = await signedPath();
    publish(upstream, path);
    expect((await put('release', { storePath: path.storePath, fetch: true })).status).toBe(202);
    await snowcap.settled();
    const got = await (await ask('/pins/release', { headers: BEARER })).json();
    expect(got).toMatchObject({ absentPaths: 0, presentBytes: path.body.length });
  });

  it.each([
    ['no JSON', 'nothing', ['expected a body of JSON']],
    ['a list', '[]', ['expected a body of JSON']],
    ['an empty body', '', ['expected a body of JSON']],
    ['too long a body', `"${'x'.repeat(70_000)}"`, ['at most 65536 bytes']],
    [
      'several mistakes',
      { path: 'x', fetch: 'yes', ttlSeconds: -1 },
      ['"path" is no field', 'storePath: expected', 'fetch: expected', 'ttlSeconds: expected'],
    ],
    ['both ends', { storePath: '/nix/store/x', expiresAt: 'x', ttlSeconds: 1 }, ['not both']],
    ['no time', { storePath: '/nix/store/x', expiresAt: 'tomorrow' }, ['expiresAt: expected a time']],
    ['no store path', { storePath: '/nix/store/x' }, ['Cannot parse store path']],
  ])('are refused for %s, with all that is wrong', async (_case, body, said) => {
    const answer = await put('release', body);
    expect(answer.status).toBe(400);
    const text = await answer.text();
    for (const part of said) expect(text).toContain(part);
  });

  it('are 404 where no source has the path, and 400 for a name that is none', async () => {
    const { storePath } = await signedPath({ name: 'nowhere' });
    expect((await put('release', { storePath })).status).toBe(404);
    expect((await put('a%20b', { storePath })).status).toBe(400);
  });
});
