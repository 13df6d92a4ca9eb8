import { describe, expect, it } from 'vitest';
import { download } from '../support/download.ts';
import { publish as publishAt } from '../support/signed-path.ts';
import type { RuntimeContract } from './runtime.contract.ts';
import { fetchFollowing, store } from './site.ts';
import type { Published, Site } from './site.ts';

/** Requests one after another, many at once, and clients that leave. */
export function testCrowds(contract: RuntimeContract, site: () => Site): void {
  describe('many requests', () => {
    it('answers request after request, hits and misses, over kept connections', async () => {
      const { snowcap, publish } = site();
      for (let round = 0; round < 3; round += 1) {
        const path = await publish({ name: `in-a-row-${round}`, size: 200_000, compression: 'xz' });
        for (let again = 0; again < 2; again += 1) {
          const narInfo = await fetch(`${snowcap.url}${path.narInfoRoute}`);
          expect(narInfo.status).toBe(200);
          expect(await narInfo.text()).toContain(path.storePath);
          const nar = await fetch(`${snowcap.url}${path.narRoute}`);
          expect(nar.status).toBe(200);
          expect(Buffer.from(await nar.arrayBuffer()).equals(path.body)).toBe(true);
        }
      }
    });

    it('gives 50 clients at once what each asked for: narinfos, stored NARs and one that is cold', async () => {
      const { snowcap, upstream, publish } = site();
      const stored: Published[] = [];
      for (let index = 0; index < 5; index += 1) {
        const path = await publish({ name: `crowd-${index}`, size: 100_000 + index * 150_000 });
        await store(site(), path);
        stored.push(path);
      }
      const cold = await publish({ name: 'crowd-cold', size: 3_000_000, compression: 'zstd' });
      await download(`${snowcap.url}${cold.narInfoRoute}`);

      const answers = await Promise.all(
        Array.from({ length: 50 }, async (_, index) => {
          const path = index % 2 === 0 ? cold : stored[index % stored.length];
          if (path === undefined) throw new Error('Nothing is stored');
          if (index % 7 === 3) {
            const narInfo = await download(`${snowcap.url}${path.narInfoRoute}`);
            return narInfo.status === 200 && narInfo.bytes.toString().includes(path.storePath);
          }
          const { status, ended, sha256 } = await fetchFollowing(`${snowcap.url}${path.narRoute}`);
          return status === 200 && ended === 'clean' && sha256 === path.sha256;
        }),
      );
      expect(answers.filter((right) => right).length).toBe(50);
      const downloads = upstream.requestsTo(cold.narRoute, 'GET').length;
      if (contract.unsupported?.sharedFills === undefined) expect(downloads).toBe(1);
      else expect(downloads).toBeLessThanOrEqual(25);
    });

    it('is not troubled by clients that leave in the middle, and gives later ones the whole', async () => {
      const { snowcap, upstream, publish } = site();
      const path = await publish({ name: 'left', size: 2_000_000 });
      publishAt(upstream, path, { bytesPerSecond: 4_000_000 });
      await download(`${snowcap.url}${path.narInfoRoute}`);
      const left = await Promise.all(
        [1, 100_000, 700_000].map((leaveAfter) =>
          download(`${snowcap.url}${path.narRoute}`, { leaveAfter }).catch(() => null),
        ),
      );
      for (const seen of left) {
        if (seen === null || seen.status !== 200) continue;
        expect(seen.bytes.equals(path.body.subarray(0, seen.bytes.length))).toBe(true);
      }
      publishAt(upstream, path);
      const answer = await fetchFollowing(`${snowcap.url}${path.narRoute}`);
      expect(answer).toMatchObject({ status: 200, ended: 'clean' });
      expect(answer.sha256).toBe(path.sha256);
      expect((await download(`${snowcap.url}/nix-cache-info`)).status).toBe(200);
    });
  });
}
