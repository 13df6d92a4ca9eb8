import { describe, expect, it } from 'vitest';
import { expectAgreement } from './agreement.ts';
import { createFaultBench, expectHealed, loadInTrouble } from './faults.ts';
import { serversMissing } from './servers.ts';

const reason = serversMissing();

describe.skipIf(reason !== null)(
  `a fleet in the middle of cold NARs${reason === null ? '' : ` (${reason})`}`,
  () => {
    const bench = createFaultBench();

    it('that loses Redis works on without: every body is right, and nobody sees an error', async () => {
      const { servers } = bench;
      const fleet = await bench.start({ workers: 2 });
      const { report, paths } = await loadInTrouble(fleet, () => servers.redis.kill());
      expect(report).toMatchObject({ honest: [], givenUp: [] });
      await expectAgreement(fleet, servers, paths);
      await servers.redis.restart();
      await expectHealed(fleet, servers, paths);
    });

    it.each([
      [
        'late',
        () => {
          bench.servers.redisNetwork.slow(1_500);
          bench.servers.rest.fault = () => ({ kind: 'late', milliseconds: 500 + 2_500 * Math.random() });
        },
      ],
      ['twice', () => void (bench.servers.rest.fault = () => ({ kind: 'twice' }))],
      [
        'never',
        () => {
          bench.servers.redisNetwork.stall(true);
          bench.servers.rest.fault = () => ({ kind: 'silent' });
        },
      ],
    ])('whose Redis answers %s gives every body right, and no error', async (how, begin) => {
      const { servers } = bench;
      const fleet = await bench.start(how === 'twice' ? { locks: ['rest', 'rest', 'rest'] } : {});
      const { report, paths } = await loadInTrouble(fleet, begin);
      expect(report).toMatchObject({ honest: [], givenUp: [] });
      await expectAgreement(fleet, servers, paths);
    });
  },
);
