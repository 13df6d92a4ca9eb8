import { beforeAll, describe, expect, it, vi } from 'vitest';
import { closureOf, openClosure, pathNamed } from '../support/closure.ts';
import type { Closure } from '../support/closure.ts';
import { startFaultServer } from '../support/fault-server.ts';
import type { FaultServer } from '../support/fault-server.ts';
import { skipReason } from '../support/require.ts';
import type { SnowcapProcess } from '../support/snowcap-process.ts';
import { upstreamCacheOf } from '../support/upstream-cache.ts';
import { createBench, expectGenuineStorage, expectSameAsSource, narInfoRoute } from './harness.ts';

const reason = skipReason('nix', 'nix-store', 'nix-build');

/** Much more than a dead upstream may cost, much less than waiting for one would. */
const COPY_LIMIT_MS = 30_000;

describe.skipIf(reason !== null)(`several upstreams${reason === null ? '' : ` (${reason})`}`, () => {
  const bench = createBench();
  let closure: Closure;
  let directory: string;
  let root: string;

  beforeAll(async () => {
    closure = await openClosure();
    directory = await upstreamCacheOf(closure, 'xz');
    root = pathNamed(closure, 'layer-5-1');
  });

  /** An upstream whose port refuses connections. */
  async function deadUpstream(): Promise<FaultServer> {
    const server = await bench.upstream(directory);
    await server.down();
    return server;
  }

  function snowcapBehind(...upstreams: readonly string[]): Promise<SnowcapProcess> {
    return bench.snowcap({
      upstreams,
      trustedPublicKeys: [closure.publicKey],
      env: { SNOWCAP_UPSTREAM_HEADERS_TIMEOUT: '2', SNOWCAP_NEGATIVE_TTL: '0' },
    });
  }

  async function expectCopy(snowcap: SnowcapProcess): Promise<void> {
    const client = await bench.client();
    const begun = performance.now();
    const result = await client.copyFrom(snowcap.url, [root], { trustedPublicKeys: [closure.publicKey] });
    expect(result.code, result.stderr).toBe(0);
    expect(performance.now() - begun).toBeLessThan(COPY_LIMIT_MS);
    await expectSameAsSource(client, closure, root);
    await expectGenuineStorage(snowcap, [directory]);
  }

  it.each(['first', 'last'])('serve while one of two is dead, be it the %s', async (place) => {
    const [alive, dead] = [await bench.upstream(directory), await deadUpstream()];
    const urls = [alive.url, dead.url];
    await expectCopy(await snowcapBehind(...(place === 'first' ? urls.toReversed() : urls)));
  });

  it.each([
    ['never answers', { stallAt: 'headers' }],
    ['answers 500 to everything', { status: 500, body: 'broken\n' }],
    ['answers 401 to everything', { status: 401, body: 'who are you\n' }],
    ['resets every connection', { resetAt: 'headers' }],
  ] as const)('serve while one of two %s, although it has the better priority', async (_, behaviour) => {
    const alive = await bench.upstream(directory);
    const broken = await startFaultServer({ fallback: behaviour });
    bench.afterwards(() => broken.close());
    await expectCopy(await snowcapBehind(`${broken.url}?priority=10`, `${alive.url}?priority=50`));
  });

  it('serve paths of which each upstream has only some', async () => {
    const halves = [await bench.upstream(directory), await bench.upstream(directory)];
    closureOf(closure, root).forEach(({ path }, index) => {
      halves[index % 2]?.route(narInfoRoute(path), { status: 404, body: 'not here\n' });
    });
    await expectCopy(await snowcapBehind(...halves.map(({ url }) => url)));
    for (const half of halves) expect(half.requestsTo(/^\/nar\//, 'GET').length).toBeGreaterThan(0);
  });

  it('are asked for a NAR in the order of their priority', async () => {
    const [better, worse] = [await bench.upstream(directory), await bench.upstream(directory)];
    await expectCopy(await snowcapBehind(`${worse.url}?priority=50`, `${better.url}?priority=10`));
    expect(better.requestsTo(/^\/nar\//, 'GET').length).toBe(closureOf(closure, root).length);
    expect(worse.requestsTo(/^\/nar\//, 'GET').length).toBe(0);
  });

  it('replace each other: a NAR whose upstream died after its narinfo comes from another one (law 3)', async () => {
    const [dying, other] = [await bench.upstream(directory), await bench.upstream(directory)];
    const snowcap = await snowcapBehind(`${dying.url}?priority=10`, `${other.url}?priority=50`);
    const client = await bench.client();
    const seen = await client.run('nix', ['path-info', '--store', snowcap.url, '--recursive', root]);
    expect(seen.code, seen.stderr).toBe(0);
    await dying.down();
    await expectCopy(snowcap);
  });

  it('may all be down at the start: Snowcap starts, answers a fault and not 404, and serves when one is up', async () => {
    const upstream = await deadUpstream();
    const snowcap = await snowcapBehind(upstream.url);
    expect((await snowcap.get('/nix-cache-info')).status).toBe(200);
    expect((await snowcap.get('/healthz')).status).toBe(200);
    const fault = await snowcap.get(narInfoRoute(root));
    expect([502, 504]).toContain(fault.status);
    expect(fault.headers.get('cache-control')).toContain('no-store');
    await upstream.up();
    await vi.waitFor(async () => expect((await snowcap.get(narInfoRoute(root))).status).toBe(200), {
      timeout: 60_000,
      interval: 500,
    });
    await expectCopy(snowcap);
  });

  it('make a fault, not 404, where one says no and the other cannot be asked (law 5)', async () => {
    const lacking = await startFaultServer();
    bench.afterwards(() => lacking.close());
    lacking.route('/nix-cache-info', { body: 'StoreDir: /nix/store\n' });
    const broken = await startFaultServer({ fallback: { status: 500, body: 'broken\n' } });
    bench.afterwards(() => broken.close());
    const snowcap = await snowcapBehind(lacking.url, broken.url);
    expect([502, 504]).toContain((await snowcap.get(narInfoRoute(root))).status);
  });

  it('make 404 where all of them say no, by 404, 410, or 403 of a cache that can be read', async () => {
    const servers = await Promise.all(
      [404, 410, 403].map((missingStatus) => startFaultServer({ missingStatus })),
    );
    for (const server of servers) {
      bench.afterwards(() => server.close());
      server.route('/nix-cache-info', { body: 'StoreDir: /nix/store\n' });
    }
    const snowcap = await snowcapBehind(...servers.map(({ url }) => url));
    expect((await snowcap.get(narInfoRoute(root))).status).toBe(404);
    const closed = await startFaultServer({ missingStatus: 403 });
    bench.afterwards(() => closed.close());
    const locked = await snowcapBehind(closed.url);
    expect((await locked.get(narInfoRoute(root))).status).toBe(502);
  });
});
