import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createNixStore } from '../support/nix-store.ts';
import { startPublicBucket } from '../support/public-bucket.ts';
import type { SignedPath } from '../support/signed-path.ts';
import { expectAgreement } from './agreement.ts';
import { load, type LoadOptions, wantedBy } from './clients.ts';
import { errorsOf, expectDownloadedOnce, type Fleet, publishAll, startFleet } from './fleet.ts';
import { coldPaths } from './nars.ts';
import { type Servers, serversMissing, startServers } from './servers.ts';

const reason = serversMissing();

/** Long enough for the slowest machine: who waits to the bound reads the upstream a second time, by design. */
const PATIENT = { SNOWCAP_FILL_WAIT: '60' };

/** Copies paths from the bucket to a store of its own by a plain Nix, which checks hashes and signatures. */
async function expectCopied(fleet: Fleet, paths: readonly SignedPath[]): Promise<void> {
  const open = await startPublicBucket(fleet.bucket);
  const client = await createNixStore();
  try {
    const wanted = paths.map(({ storePath }) => storePath);
    const copied = await client.copyFrom(open.url, wanted, { trustedPublicKeys: [fleet.publicKey] });
    expect(copied.code, copied.stderr).toBe(0);
    expect([...(await client.validPaths()).keys()].sort()).toEqual([...wanted].sort());
  } finally {
    await client.remove();
    await open.close();
  }
}

describe.skipIf(reason !== null)(
  `three instances on Node and two in workerd over one S3, Postgres and Redis${reason === null ? '' : ` (${reason})`}`,
  () => {
    let servers: Servers;
    let fleet: Fleet;

    beforeAll(async () => {
      servers = await startServers('postgres', 'direct');
      fleet = await startFleet(servers, { workers: 2, settings: PATIENT });
    });
    afterAll(async () => {
      await fleet.close();
      await servers.close();
    });

    it('asked by 100 clients for 50 cold NARs download each once, and leave a whole binary cache', async () => {
      const paths = await coldPaths(50);
      publishAll(fleet.upstream, paths);
      const asked: LoadOptions = { urls: fleet.urls, paths };
      const report = await load(asked);
      expect(report, errorsOf(fleet)).toMatchObject({
        honest: [],
        wrong: [],
        givenUp: [],
        right: wantedBy(asked),
      });
      expectDownloadedOnce(fleet, paths);
      await expectAgreement(fleet, servers, paths);
      await fleet.upstream.down();
      await expectCopied(fleet, paths);
    });
  },
);
