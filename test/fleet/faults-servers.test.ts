import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { signedPath } from '../support/signed-path.ts';
import { expectAgreement } from './agreement.ts';
import { load, type LoadOptions, wantedBy } from './clients.ts';
import { createFaultBench, expectHealed, loadInTrouble } from './faults.ts';
import { type Fleet, publishAll } from './fleet.ts';
import { serversMissing } from './servers.ts';

const reason = serversMissing();

/**
 * Waits until each instance asks its upstream again. A circuit has no timer: what closes it is a request that comes when
 * its probe is due, here for a narinfo that nobody has asked for, as each instance would find it in the index else.
 */
async function expectReached({ urls, upstream }: Fleet): Promise<void> {
  await Promise.all(
    urls.map(async (url) => {
      const path = await signedPath({ name: `reached-${crypto.randomUUID()}` });
      publishAll(upstream, [path]);
      await expect
        .poll(async () => (await fetch(`${url}/${path.hash}.narinfo`)).status, {
          timeout: 60_000,
          interval: 250,
        })
        .toBe(200);
    }),
  );
}

describe.skipIf(reason !== null)(
  `a fleet in the middle of cold NARs${reason === null ? '' : ` (${reason})`}`,
  () => {
    const bench = createFaultBench();

    /** Asks for NARs that the fleet has stored: one small, one in several parts. */
    async function stored(fleet: Fleet): Promise<LoadOptions> {
      const paths = await Promise.all([
        signedPath({ name: 'stored-small', seed: 501, size: 20_000 }),
        signedPath({ name: 'stored-large', seed: 502, size: 7_000_000, compression: 'zstd' }),
      ]);
      publishAll(fleet.upstream, paths);
      const asked = { urls: fleet.urls, paths, copies: () => 1 };
      await load(asked);
      await expectAgreement(fleet, bench.servers, paths);
      return asked;
    }

    async function expectHits(asked: LoadOptions): Promise<void> {
      expect(await load(asked)).toMatchObject({ honest: [], wrong: [], right: wantedBy(asked) });
    }

    it('that loses Postgres answers what is stored, and 502 for the rest; all of it heals', async () => {
      const { servers } = bench;
      const fleet = await bench.start({ workers: 2 });
      const warm = await stored(fleet);
      const { report, paths } = await loadInTrouble(fleet, async () => {
        await servers.index.down();
        await expectHits(warm);
        await sleep(1_000);
        await servers.index.up();
      });
      expect(report.honest.filter((answer) => !answer.includes(': 502, '))).toEqual([]);
      await expectHealed(fleet, servers, [...warm.paths, ...paths]);
    });

    it('that loses S3 still gives bodies from the upstream, stores nothing by halves, and heals', async () => {
      const { servers } = bench;
      const fleet = await bench.start();
      const { report, paths } = await loadInTrouble(fleet, async () => {
        await servers.s3Network.down();
        await sleep(3_000);
        await servers.s3Network.up();
      });
      // A body that was on its way from the bucket broke; who tries again has it from the upstream.
      expect(report.givenUp).toEqual([]);
      await expectHealed(fleet, servers, paths);
    });

    it('whose S3 is slow gives every body right', async () => {
      const { servers } = bench;
      const fleet = await bench.start();
      const { report, paths } = await loadInTrouble(fleet, () => servers.s3Network.slow(20));
      expect(report).toMatchObject({ honest: [], givenUp: [] });
      servers.s3Network.slow(0);
      await expectAgreement(fleet, servers, paths);
    });

    it('that loses its upstream serves all that is stored, and 502 for the rest', async () => {
      const { servers } = bench;
      const fleet = await bench.start();
      const warm = await stored(fleet);
      const { report, paths } = await loadInTrouble(fleet, async () => {
        await fleet.upstream.down();
        await expectHits(warm);
        await sleep(1_000);
        await fleet.upstream.up();
      });
      // A fault's status, or a body that the upstream broke off.
      expect(report.honest.filter((answer) => !/: (502|504|200), .*/.test(answer))).toEqual([]);
      await expectReached(fleet);
      await expectHealed(fleet, servers, [...warm.paths, ...paths]);
    });
  },
);
