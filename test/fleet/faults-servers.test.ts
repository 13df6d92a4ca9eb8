import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { publish, signedPath } from '../support/signed-path.ts';
import { expectAgreement } from './agreement.ts';
import { load, wantedBy } from './clients.ts';
import { createFaultBench, expectHealed, loadInTrouble } from './faults.ts';
import { serversMissing } from './servers.ts';

const reason = serversMissing();

/** Whether an instance believes that its upstream answers. */
async function isReached(url: string): Promise<boolean> {
  return !(await (await fetch(`${url}/readyz`)).text()).includes('"ok": false');
}

describe.skipIf(reason !== null)(
  `a fleet in the middle of cold NARs${reason === null ? '' : ` (${reason})`}`,
  () => {
    const bench = createFaultBench();

    it('that loses Postgres answers what is stored, and 502 for the rest; all of it heals', async () => {
      const { servers } = bench;
      const fleet = await bench.start({ workers: 2 });
      const known = await signedPath({ name: 'stored', size: 7_000_000, compression: 'zstd' });
      publish(fleet.upstream, known);
      const warm = { urls: fleet.urls, paths: [known], copies: () => 1 };
      await load(warm);
      await expectAgreement(fleet, servers, [known]);
      const { report, paths } = await loadInTrouble(fleet, async () => {
        await servers.index.down();
        const hits = await load(warm);
        expect(hits).toMatchObject({ honest: [], wrong: [], right: wantedBy(warm) });
        await sleep(1_000);
        await servers.index.up();
      });
      expect(report.honest.filter((answer) => !answer.includes(': 502, '))).toEqual([]);
      await expectHealed(fleet, servers, [known, ...paths]);
    });

    it('that loses S3 still gives bodies from the upstream, stores nothing by halves, and heals', async () => {
      const { servers } = bench;
      const fleet = await bench.start();
      const { paths } = await loadInTrouble(fleet, async () => {
        await servers.s3Network.down();
        await sleep(3_000);
        await servers.s3Network.up();
      });
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
      const { paths } = await loadInTrouble(fleet, async () => {
        await fleet.upstream.down();
        await sleep(1_000);
        await fleet.upstream.up();
      });
      // Circuits are probed in the background.
      await expect
        .poll(() => Promise.all(fleet.urls.map(isReached)), { timeout: 60_000 })
        .not.toContain(false);
      await expectHealed(fleet, servers, paths);
    });
  },
);
