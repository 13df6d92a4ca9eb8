import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import type { SignedPath } from '../support/signed-path.ts';
import { expectAgreement } from './agreement.ts';
import { load, type LoadOptions, type LoadReport, wantedBy } from './clients.ts';
import { type Fleet, type FleetOptions, publishAll, startFleet } from './fleet.ts';
import { coldPaths } from './nars.ts';
import { type Servers, startServers } from './servers.ts';

/** The longest that any one answer may take while something is at fault, in milliseconds. */
const MOST_MS = 60_000;
/** How fast the upstream gives bodies, in bytes a second: a fault comes in the middle of the larger ones. */
const BYTES_PER_SECOND = 4_000_000;

/** Servers for a group of tests, and a fleet for each of them. */
export interface FaultBench {
  readonly servers: Servers;
  /** Starts the fleet of a test, which waits a short time for other instances. */
  start(options?: FleetOptions): Promise<Fleet>;
}

/** To be called where a group of tests is collected. After each of them everything is whole again. */
export function createFaultBench(): FaultBench {
  let started: Servers | undefined;
  let fleet: Fleet | undefined;
  const servers = (): Servers => {
    if (started === undefined) throw new Error('The servers are not started');
    return started;
  };

  beforeAll(async () => {
    started = await startServers();
  });
  afterEach(async () => {
    const { rest, redisNetwork, s3Network } = servers();
    rest.fault = null;
    for (const network of [redisNetwork, s3Network]) {
      network.slow(0);
      network.stall(false);
    }
    await fleet?.close();
    fleet = undefined;
  });
  afterAll(() => started?.close());
  return {
    get servers() {
      return servers();
    },
    async start(options = {}) {
      fleet = await startFleet(servers(), { settings: { SNOWCAP_FILL_WAIT: '5' }, ...options });
      return fleet;
    },
  };
}

export interface TroubledLoad {
  readonly report: LoadReport;
  readonly paths: readonly SignedPath[];
}

/**
 * Cold NARs are asked for while something goes wrong in the middle: nobody gets a wrong or short body, nobody a 404, and
 * nobody waits for ever.
 *
 * @param trouble called when bodies are on their way; may go on while clients are served
 */
export async function loadInTrouble(
  fleet: Fleet,
  trouble: (paths: readonly SignedPath[]) => unknown,
  clients: Partial<LoadOptions> = {},
): Promise<TroubledLoad> {
  const paths = await coldPaths(24, 2);
  publishAll(fleet.upstream, paths, { bytesPerSecond: BYTES_PER_SECOND });
  const loading = load({ urls: fleet.urls, paths, clients: 40, copies: () => 2, ...clients });
  await expect.poll(() => begun(fleet, paths), { timeout: 20_000, interval: 5 }).toBeGreaterThan(3);
  await trouble(paths);
  const report = await loading;
  expect(report.wrong).toEqual([]);
  expect(report.slowestMs).toBeLessThan(MOST_MS);
  return { report, paths };
}

/** Now that nothing is at fault any more, everything is got from each instance, whole and right, and stored. */
export async function expectHealed(
  fleet: Fleet,
  servers: Servers,
  paths: readonly SignedPath[],
): Promise<void> {
  const asked: LoadOptions = { urls: fleet.urls, paths, clients: 20, copies: () => 1 };
  const report = await load(asked);
  expect(report).toMatchObject({ wrong: [], givenUp: [], right: wantedBy(asked) });
  await expectAgreement(fleet, servers, paths);
}

/** How many bodies are on their way, or were. */
function begun({ upstream }: Fleet, paths: readonly SignedPath[]): number {
  return paths.filter(({ url }) => upstream.requestsTo(`/${url}`, 'GET').length > 0).length;
}
