import { describe, expect, it } from 'vitest';
import { publish, signedPath } from '../support/signed-path.ts';
import { expectAgreement } from './agreement.ts';
import { askNar, load, wantedBy } from './clients.ts';
import { createFaultBench, expectHealed, loadInTrouble } from './faults.ts';
import { downloadsOf } from './fleet.ts';
import { serversMissing } from './servers.ts';

const reason = serversMissing();

describe.skipIf(reason !== null)(
  `a fleet in the middle of cold NARs${reason === null ? '' : ` (${reason})`}`,
  () => {
    const bench = createFaultBench();

    it('that loses an instance in mid-fill loses nothing but a second download', async () => {
      const { servers } = bench;
      const fleet = await bench.start();
      const path = await signedPath({ name: 'killed', size: 6_000_000 });
      publish(fleet.upstream, path, [{ stallAt: 3_000_000 }, {}]);
      const [first, ...others] = fleet.instances;
      const cut = load({ urls: [first?.url ?? ''], paths: [path], clients: 1, copies: () => 1, attempts: 1 });
      await expect.poll(() => downloadsOf(fleet.upstream, path)).toBe(1);
      const { report, paths } = await loadInTrouble(fleet, () => first?.kill(), { failOver: true });
      expect(report.givenUp).toEqual([]);
      expect(await cut).toMatchObject({ wrong: [], right: 0 });
      // The dead one's lease is still there: others read the upstream at once, or after their wait.
      const asked = { urls: others.map(({ url }) => url), paths: [path], copies: () => 2 };
      expect(await load(asked)).toMatchObject({ honest: [], wrong: [], right: wantedBy(asked) });
      // As at its end.
      await servers.redis.command('FLUSHALL');
      await first?.restart();
      await expectHealed(fleet, servers, [path, ...paths]);
    });

    it('with an instance that slept past its lease keeps what was stored meanwhile', async () => {
      const { servers } = bench;
      const fleet = await bench.start();
      const path = await signedPath({ name: 'paused', size: 6_000_000 });
      const go = Promise.withResolvers<void>();
      publish(fleet.upstream, path, [{ stallAt: 3_000_000, until: go.promise }, {}]);
      const [first, ...others] = fleet.instances;
      const leader = load({ urls: [first?.url ?? ''], paths: [path], clients: 1, copies: () => 1 });
      await expect.poll(() => downloadsOf(fleet.upstream, path)).toBe(1);
      process.kill(first?.pid ?? 0, 'SIGSTOP');
      await servers.redis.command('FLUSHALL');
      const asked = { urls: others.map(({ url }) => url), paths: [path], copies: () => 2 };
      expect(await load(asked)).toMatchObject({ honest: [], wrong: [], right: wantedBy(asked) });
      await expectAgreement(fleet, servers, [path]);
      go.resolve();
      process.kill(first?.pid ?? 0, 'SIGCONT');
      expect(await leader).toMatchObject({ honest: [], wrong: [], right: 1 });
      await expectAgreement(fleet, servers, [path]);
      expect(await askNar(`${first?.url}/${path.url}`, path)).toMatchObject({ verdict: 'right' });
      expect(downloadsOf(fleet.upstream, path)).toBe(2);
    });
  },
);
