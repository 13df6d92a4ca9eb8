import { beforeAll, describe, expect, it } from 'vitest';
import { openClosure, pathNamed } from '../support/closure.ts';
import type { Closure } from '../support/closure.ts';
import type { FaultServer } from '../support/fault-server.ts';
import { skipReason } from '../support/require.ts';
import type { SnowcapProcess } from '../support/snowcap-process.ts';
import { narInfoField, narInfoLines, upstreamCacheOf } from '../support/upstream-cache.ts';
import { UPSTREAM_QUIRKS } from '../support/upstream-server.ts';
import {
  createBench,
  expectGenuineStorage,
  expectSameAsSource,
  narInfoRoute,
  whenStored,
} from './harness.ts';

const reason = skipReason('nix', 'nix-store', 'nix-build');

/** Deep references, two paths with one NAR, unicode, content-addressed: everything but the large path. */
const ROOTS = [
  'layer-4-0',
  'layer-4-5',
  'empty-file',
  'empty-twin',
  'unicode',
  'wide',
  'text-with-reference',
];

describe.skipIf(reason !== null)(`upstreams as they are met${reason === null ? '' : ` (${reason})`}`, () => {
  const bench = createBench();
  let closure: Closure;
  let roots: readonly string[];

  beforeAll(async () => {
    closure = await openClosure();
    roots = ROOTS.map((name) => pathNamed(closure, name));
  });

  describe.each(UPSTREAM_QUIRKS)('$title', (quirk) => {
    let directory: string;
    let upstream: FaultServer;
    let snowcap: SnowcapProcess;

    beforeAll(async () => {
      directory = await upstreamCacheOf(closure, quirk.compression);
      upstream = await bench.upstream(directory, quirk);
      snowcap = await bench.snowcap({ upstreams: [upstream.url], trustedPublicKeys: [closure.publicKey] });
    });

    it('is copied from through a cold Snowcap', async () => {
      const client = await bench.client();
      const result = await client.copyFrom(snowcap.url, roots, { trustedPublicKeys: [closure.publicKey] });
      expect(result.code, result.stderr).toBe(0);
      await expectSameAsSource(client, closure, ...roots);
      expect(upstream.requestsTo(/^\/nar\//, 'GET').length).toBeGreaterThan(10);
    });

    it('is not needed for what was copied once', async () => {
      await upstream.down();
      const client = await bench.client();
      const result = await client.copyFrom(snowcap.url, roots, {
        trustedPublicKeys: [await snowcap.publicKey()],
      });
      expect(result.code, result.stderr).toBe(0);
      await expectSameAsSource(client, closure, ...roots);
    });

    it('leaves only genuine bodies under names that a plain client can use', async () => {
      await whenStored(snowcap, closure, ...roots);
      expect(await expectGenuineStorage(snowcap, [directory])).toBeGreaterThan(10);
      for (const root of roots) {
        const lines = narInfoLines(await (await snowcap.get(narInfoRoute(root))).text());
        expect(narInfoField(lines, 'URL')).toMatch(
          /^nar\/[0-9a-z]{32,52}(-[0-9a-z]{52})?\.nar(\.[a-z0-9]+)?$/,
        );
      }
      const client = await bench.client();
      const result = await client.copyFrom(`file://${snowcap.storage}`, roots, {
        trustedPublicKeys: [closure.publicKey],
      });
      expect(result.code, result.stderr).toBe(0);
    });

    it('is said to lack a path that it lacks', async () => {
      await upstream.up();
      const response = await snowcap.get(`/${'0'.repeat(32)}.narinfo`);
      expect(response.status, await response.text()).toBe(404);
    });
  });
});
