import { readdir } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { openClosure } from '../support/closure.ts';
import type { Closure } from '../support/closure.ts';
import type { FaultServer } from '../support/fault-server.ts';
import { skipReason } from '../support/require.ts';
import type { SnowcapProcess } from '../support/snowcap-process.ts';
import { UPSTREAM_COMPRESSIONS, upstreamCacheOf } from '../support/upstream-cache.ts';
import { createBench, expectGenuineStorage, expectSameAsSource, narRequests } from './harness.ts';

const reason = skipReason('nix', 'nix-store', 'nix-build');

describe.skipIf(reason !== null)(
  `a closure of more than 100 paths${reason === null ? '' : ` (${reason})`}`,
  () => {
    const bench = createBench();
    let closure: Closure;

    beforeAll(async () => {
      closure = await openClosure();
    });

    it('is a real one: more than 100 paths, deep, with references, content-addressed paths and a large one', () => {
      const paths = [...closure.paths.values()];
      expect(paths.length).toBeGreaterThan(100);
      expect(paths.filter(({ references }) => references.length > 1).length).toBeGreaterThan(80);
      expect(paths.filter(({ ca }) => ca?.startsWith('fixed:r:') === true).length).toBeGreaterThan(0);
      expect(paths.filter(({ ca }) => ca?.startsWith('fixed:sha256:') === true).length).toBeGreaterThan(0);
      expect(paths.filter(({ ca }) => ca?.startsWith('text:') === true).length).toBeGreaterThan(0);
      expect(Math.max(...paths.map(({ size }) => size))).toBeGreaterThan(19_000_000);
      // Two paths with the same NAR.
      expect(new Set(paths.map(({ sha256 }) => sha256)).size).toBeLessThan(paths.length);
    });

    describe.each(UPSTREAM_COMPRESSIONS)('from an upstream that compresses with %s', (compression) => {
      let directory: string;
      let upstream: FaultServer;
      let snowcap: SnowcapProcess;

      beforeAll(async () => {
        directory = await upstreamCacheOf(closure, compression);
        upstream = await bench.upstream(directory);
        snowcap = await bench.snowcap({ upstreams: [upstream.url], trustedPublicKeys: [closure.publicKey] });
      });

      it('is copied through a cold Snowcap by a client that trusts only the upstream key', async () => {
        const client = await bench.client();
        const result = await client.copyFrom(snowcap.url, [closure.root], {
          trustedPublicKeys: [closure.publicKey],
        });
        expect(result.code, result.stderr).toBe(0);
        await expectSameAsSource(client, closure, closure.root);
        await client.verify();
      });

      it('has cost one upstream request for each NAR', () => {
        const requests = narRequests(upstream);
        expect(requests.size).toBeGreaterThan(100);
        expect([...requests].filter(([, count]) => count > 1)).toEqual([]);
      });

      it('is copied again with the upstream off, by a client that trusts only the key of Snowcap', async () => {
        await upstream.down();
        const client = await bench.client();
        const result = await client.copyFrom(snowcap.url, [closure.root], {
          trustedPublicKeys: [await snowcap.publicKey()],
        });
        expect(result.code, result.stderr).toBe(0);
        await expectSameAsSource(client, closure, closure.root);
      });

      it('is still there after a restart with the upstream off', async () => {
        await snowcap.restart();
        const client = await bench.client();
        const result = await client.realise([closure.root], [snowcap.url], {
          trustedPublicKeys: [closure.publicKey],
        });
        expect(result.code, result.stderr).toBe(0);
        await expectSameAsSource(client, closure, closure.root);
      });

      it('lies in a storage that is a plain cache itself, with no Snowcap running (law 8)', async () => {
        const publicKey = await snowcap.publicKey();
        const status = await snowcap.stop();
        expect(status, snowcap.output).toEqual({ code: 0, signal: null });
        const narInfos = (await readdir(snowcap.storage)).filter((file) => file.endsWith('.narinfo'));
        expect(narInfos.length).toBe(closure.paths.size);
        expect(await expectGenuineStorage(snowcap, [directory])).toBe(
          (await readdir(`${directory}/nar`)).length,
        );

        const client = await bench.client();
        const result = await client.copyFrom(`file://${snowcap.storage}`, [closure.root], {
          trustedPublicKeys: [publicKey],
        });
        expect(result.code, result.stderr).toBe(0);
        await expectSameAsSource(client, closure, closure.root);
      });
    });
  },
);
