import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { download } from '../support/download.ts';
import { type Behaviour, type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { servedKey, type ShiftedClock, shiftedClock } from '../support/replaced.ts';
import { publish, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache, until } from '../support/test-cache.ts';

/** How many times Nix asks before it gives a substituter up. */
const CLIENT_ATTEMPTS = 5;

/** What the hedge of `startTestCache` is, in milliseconds. */
const HEDGE_MS = 50;

/** Ways to be dead; `null` refuses connections. */
const DEATHS: readonly (readonly [string, Behaviour | null])[] = [
  ['refuses connections', null],
  ['answers 500', { status: 500, body: '' }],
  ['answers 401', { status: 401, body: '' }],
  ['resets connections', { resetAt: 'headers' }],
  ['never answers', { stallAt: 'headers' }],
];

let live: FaultServer;
let dead: FaultServer;
let clock: ShiftedClock;
let snowcap: TestCache;

beforeEach(async () => {
  live = await startFaultServer();
  live.route('/nix-cache-info', { body: 'StoreDir: /nix/store\nPriority: 40\n' });
  dead = await startFaultServer();
  clock = shiftedClock();
  snowcap = await startTestCache({
    // The dead one is the one that everybody would rather ask.
    upstreams: [`${dead.url}?priority=1`, live.url],
    clock,
    storage: 'file',
    upstreamSettings: { narInfoHeadersTimeoutMs: 200, narHeadersTimeoutMs: 200 },
  });
});

afterEach(async () => {
  await snowcap.close();
  await live.close();
  await dead.close();
});

async function die(behaviour: Behaviour | null): Promise<void> {
  if (behaviour === null) await dead.down();
  else dead.route(/./, behaviour);
}

const circuit = (): string | undefined => snowcap.cache.upstreams()[0]?.circuit;

describe.each(DEATHS)('law 5: an upstream that %s beside a live one', (_, behaviour) => {
  it('spoils the answer for a missing path within no more than one client’s attempts', async () => {
    await die(behaviour);
    const seen: number[] = [];
    for (let attempt = 1; attempt <= CLIENT_ATTEMPTS; attempt += 1) {
      seen.push((await snowcap.get(`/${'0'.repeat(32)}.narinfo`)).status);
    }
    expect(seen.at(-1)).toBe(404);
    expect(seen.filter((status) => ![404, 502, 504].includes(status))).toEqual([]);
    expect(circuit()).not.toBe('closed');
  });

  it('never spoils what the live one has, and is left alone after a few requests', async () => {
    await die(behaviour);
    const paths = await Promise.all([...Array(12).keys()].map((n) => signedPath({ name: `path-${n}` })));
    const asked: number[] = [];
    for (const path of paths) {
      publish(live, path);
      const before =
        dead.requests.length + snowcap.metric('snowcap_upstream_requests_total', { upstream: dead.url });
      const key = await servedKey(snowcap, path);
      const { status, bytes } = await download(`${snowcap.url}/${key}`);
      expect(status).toBe(200);
      expect(bytes.equals(path.body)).toBe(true);
      const after =
        dead.requests.length + snowcap.metric('snowcap_upstream_requests_total', { upstream: dead.url });
      asked.push(after - before);
    }
    // One that hangs loses each race instead, and nothing is seen of it but that: it goes on to be asked.
    if (behaviour?.stallAt === undefined) expect(asked.slice(CLIENT_ATTEMPTS)).toEqual(Array(7).fill(0));
    else
      expect(clock.waits.filter((milliseconds) => milliseconds === HEDGE_MS).length).toBeLessThanOrEqual(3);
  });
});

describe('law 5: circuits', () => {
  it('with all of them open the answer is 502, at once and without a request', async () => {
    await dead.down();
    await live.down();
    for (let attempt = 0; attempt < CLIENT_ATTEMPTS; attempt += 1) {
      expect((await snowcap.get(`/${'0'.repeat(32)}.narinfo`)).status).toBe(502);
    }
    expect(snowcap.cache.upstreams().map((upstream) => upstream.circuit)).toEqual(['open', 'open']);
    const asked = snowcap.metric('snowcap_upstream_requests_total');
    for (const target of [`${'1'.repeat(32)}.narinfo`, `nar/${'1'.repeat(52)}.nar.xz`]) {
      const answer = await snowcap.get(`/${target}`);
      expect(answer.status).toBe(502);
      expect(answer.headers.get('cache-control')).toBe('no-store');
      expect(await answer.text()).toMatch(/^upstream_unreachable: .*has failed too often lately/);
    }
    expect(snowcap.metric('snowcap_upstream_requests_total')).toBe(asked);
  });

  it.each([400, 405, 414, 431])(
    'a stranger opens none with NARs that are refused with %i',
    async (status) => {
      const path = await signedPath();
      publish(dead, path);
      dead.route(/^\/nar\/a+/, { status, body: '' });
      live.route(/^\/nar\/a+/, { status, body: '' });
      for (let attempt = 0; attempt < 2 * CLIENT_ATTEMPTS; attempt += 1) {
        const answer = await snowcap.get(`/nar/${'a'.repeat(9_000)}.nar.xz`);
        expect(answer.status).toBe(502);
        expect(await answer.text()).toContain(`answered ${status}`);
      }
      expect(snowcap.cache.upstreams().map((upstream) => upstream.circuit)).toEqual(['closed', 'closed']);
      const { bytes } = await download(`${snowcap.url}/${await servedKey(snowcap, path)}`);
      expect(bytes.equals(path.body)).toBe(true);
    },
  );

  it('a probe brings all of them back for the request that waits for it', async () => {
    const path = await signedPath();
    publish(live, path);
    await dead.down();
    await live.down();
    for (let attempt = 0; attempt < CLIENT_ATTEMPTS; attempt += 1) await snowcap.get(`/${path.hash}.narinfo`);
    await live.up();
    expect((await snowcap.get(`/${path.hash}.narinfo`)).status).toBe(502);
    clock.advance(10_000);
    expect((await snowcap.get(`/${path.hash}.narinfo`)).status).toBe(200);
    expect(snowcap.cache.upstreams().map((upstream) => upstream.circuit)).toEqual(['open', 'closed']);
  });

  it('nobody waits for the probe of one while another answers', async () => {
    await dead.down();
    for (let attempt = 0; attempt < CLIENT_ATTEMPTS; attempt += 1)
      await snowcap.get(`/${'0'.repeat(32)}.narinfo`);
    expect(circuit()).toBe('open');
    await dead.up();
    const go = Promise.withResolvers<void>();
    dead.route('/nix-cache-info', {
      body: 'StoreDir: /nix/store\n',
      delayMs: 100,
      stallAt: 5,
      until: go.promise,
    });
    clock.advance(10_000);
    const path = await signedPath();
    publish(live, path);
    await servedKey(snowcap, path);
    expect(circuit()).toBe('half-open');
    go.resolve();
    await until(() => circuit() === 'closed');
  });

  it('a known NAR whose source is left alone is a fault, never missing', async () => {
    const path = await signedPath();
    publish(dead, path);
    const key = await servedKey(snowcap, path);
    await dead.down();
    for (let attempt = 0; attempt < 2 * CLIENT_ATTEMPTS; attempt += 1) {
      expect((await snowcap.get(`/${key}`)).status).toBe(502);
      expect((await snowcap.get(`/${key}`, { method: 'HEAD' })).status).toBe(502);
    }
    expect(circuit()).toBe('open');
  });

  it('a 404 that everybody gave is remembered for its time only, and a fault is not', async () => {
    await snowcap.close();
    snowcap = await startTestCache({
      upstreams: [live.url],
      clock,
      settings: { negativeTtlMs: 30_000 },
    });
    const path = await signedPath();
    expect((await snowcap.get(`/${path.hash}.narinfo`)).status).toBe(404);
    publish(live, path);
    expect((await snowcap.get(`/${path.hash}.narinfo`)).status).toBe(404);
    clock.advance(30_000);
    live.route(`/${path.hash}.narinfo`, { status: 500, body: '' });
    expect((await snowcap.get(`/${path.hash}.narinfo`)).status).toBe(502);
    publish(live, path);
    expect((await snowcap.get(`/${path.hash}.narinfo`)).status).toBe(200);
  });
});
