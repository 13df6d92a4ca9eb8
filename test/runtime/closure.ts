import { beforeAll, describe, expect, it } from 'vitest';
import { createBench, expectSameAsSource, narRequests } from '../conformance/harness.ts';
import { openClosure } from '../support/closure.ts';
import type { Closure } from '../support/closure.ts';
import type { FaultServer } from '../support/fault-server.ts';
import { skipReason } from '../support/require.ts';
import { upstreamCacheOf } from '../support/upstream-cache.ts';
import type { RunningRuntime, RuntimeContract } from './runtime.contract.ts';

/** A closure of more than 100 paths, copied by the real Nix. */
export function testClosure(contract: RuntimeContract): void {
  const reason = skipReason('nix', 'nix-store', 'nix-build');
  describe.skipIf(reason !== null)(`a closure, copied by Nix${reason === null ? '' : ` (${reason})`}`, () => {
    const bench = createBench();
    let closure: Closure;
    let upstream: FaultServer;
    let snowcap: RunningRuntime;

    beforeAll(async () => {
      closure = await openClosure();
      upstream = await bench.upstream(await upstreamCacheOf(closure, 'xz'));
      snowcap = await contract.start({
        upstreams: [upstream.url],
        trustedPublicKeys: [closure.publicKey],
        delivery: 'auto',
      });
      bench.afterwards(() => snowcap.stop());
    });

    it('is copied through it cold, by a client that trusts only the upstream key', async () => {
      const client = await bench.client();
      const result = await client.copyFrom(snowcap.url, [closure.root], {
        trustedPublicKeys: [closure.publicKey],
      });
      expect(result.code, result.stderr).toBe(0);
      await expectSameAsSource(client, closure, closure.root);
      await client.verify();
      expect(narRequests(upstream).size).toBeGreaterThan(100);
    });

    it('is copied again with the upstream off, by a client that trusts only the key of Snowcap', async () => {
      await upstream.down();
      const client = await bench.client();
      const result = await client.copyFrom(snowcap.url, [closure.root], {
        trustedPublicKeys: [snowcap.publicKey],
      });
      expect(result.code, result.stderr).toBe(0);
      await expectSameAsSource(client, closure, closure.root);
    });
  });
}
