import { afterEach, describe, expect, it } from 'vitest';
import { expectAgreement } from './agreement.ts';
import { load, wantedBy } from './clients.ts';
import {
  errorsOf,
  expectDownloadedOnce,
  type Fleet,
  type FleetOptions,
  publishAll,
  startFleet,
} from './fleet.ts';
import { coldPaths } from './nars.ts';
import { type Servers, serversMissing, startServers } from './servers.ts';

const ends: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

async function expectShared(database: 'postgres' | 'mysql', options: FleetOptions): Promise<void> {
  const servers: Servers = await startServers(database, 'direct');
  ends.push(() => servers.close());
  const fleet: Fleet = await startFleet(servers, { ...options, settings: { SNOWCAP_FILL_WAIT: '60' } });
  ends.push(() => fleet.close());
  const paths = await coldPaths(16, 1);
  publishAll(fleet.upstream, paths);
  const asked = { urls: fleet.urls, paths, clients: 40, copies: () => 3 };
  const report = await load(asked);
  expect(report, errorsOf(fleet)).toMatchObject({
    honest: [],
    wrong: [],
    givenUp: [],
    right: wantedBy(asked),
  });
  expectDownloadedOnce(fleet, paths);
  await expectAgreement(fleet, servers, paths);
}

describe('a fleet shares its cold NARs', () => {
  it('over MySQL, with its locks in there too', async (context) => {
    const reason = serversMissing('mysql');
    if (reason !== null) return context.skip(reason);
    await expectShared('mysql', { locks: ['database', 'database', 'database'] });
  });

  it('over Postgres, with its locks in there too', async (context) => {
    const reason = serversMissing();
    if (reason !== null) return context.skip(reason);
    await expectShared('postgres', { locks: ['database', 'database', 'database'] });
  });

  it('over MySQL, with its locks in Redis', async (context) => {
    const reason = serversMissing('mysql');
    if (reason !== null) return context.skip(reason);
    await expectShared('mysql', {});
  });
});
