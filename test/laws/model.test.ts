import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, type TestContext } from 'vitest';
import { generateSecretKey } from '../../src/nix/signing-key.ts';
import { postgresPlaces } from '../contract/database/postgres-place.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { postgresMissing, startPostgres } from '../support/postgres-server.ts';
import { startS3Server } from '../support/s3-server.ts';
import { checkBodies, checkBucket, checkSettled, fetchPath } from './model/checks.ts';
import { commands } from './model/commands.ts';
import { Model } from './model/model.ts';
import { filePlace, type Place, serverPlace } from './model/places.ts';
import { startSystem, type System } from './model/system.ts';
import { makeWorld, type World } from './model/world.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
/** For longer searches: how many runs, over each place. */
const RUNS = Number(process.env['TEST_MODEL_RUNS'] ?? 0);
const LONG_MS = 60 * 60 * 1000;

let upstream: FaultServer;
let world: World;
let directory: string;

beforeAll(async () => {
  upstream = await startFaultServer();
  world = await makeWorld(upstream);
  directory = await mkdtemp(join(tmpdir(), 'snowcap-model-'));
});
afterAll(async () => {
  await upstream.close();
  await rm(directory, { recursive: true, force: true });
});

/** Runs of commands at random, each over an empty place. What fails is shrunk, and told with its seed. */
async function check(runs: number, openPlace: (directory: string) => Promise<Place>): Promise<void> {
  const secretKey = await generateSecretKey('snowcap.test-1');
  const property = fc.asyncProperty(
    commands,
    fc.constantFrom(null, 0, 5 * DAY_MS),
    async (sequence, evictPushedAfterMs) => {
      const own = await mkdtemp(join(directory, 'run-'));
      const model = new Model(world, evictPushedAfterMs);
      const place = await openPlace(own);
      const system = await startSystem({
        place,
        directory: own,
        upstream: upstream.url,
        secretKey,
        evictPushedAfterMs,
      });
      try {
        await fc.asyncModelRun(() => ({ model, real: system }), sequence);
        await checkEnd(model, system);
      } finally {
        await system.end();
        await rm(own, { recursive: true, force: true });
      }
    },
  );
  await fc.assert(property, {
    numRuns: RUNS > 0 ? RUNS : runs,
    plugins: [fc.interruptAfterTimeLimit(RUNS > 0 ? LONG_MS : 90_000, { failOnInterrupt: true })],
  });
}

/** All that was ever answered still is, and what crashes have left can be put right. */
async function checkEnd(model: Model, system: System): Promise<void> {
  for (const name of [...model.answered, ...model.pushed.keys()]) {
    // Reading the others may have had a pushed one evicted, where that is allowed.
    if (!model.path(name).obtainable && !model.pushed.has(name)) continue;
    const { whole } = await fetchPath(system, model.path(name));
    expect({ name, whole }).toEqual({ name, whole: true });
    await system.settled();
    await checkBucket(model, system);
  }
  await checkSettled(model, system);
  await checkBucket(model, system);
  await checkBodies(model, system);
}

describe('whatever is done and dies in whatever order, bodies stay within their limit, whole, closed and counted', () => {
  it(
    'over files and SQLite',
    async () => {
      await check(25, (own) => Promise.resolve(filePlace(own)));
    },
    RUNS > 0 ? 2 * LONG_MS : 120_000,
  );

  it(
    'over S3 and PostgreSQL',
    async (context: TestContext) => {
      const missing = postgresMissing();
      if (missing !== null) context.skip(missing);
      const [s3, postgres] = await Promise.all([startS3Server(), startPostgres()]);
      try {
        const databases = postgresPlaces(postgres);
        await check(6, () => serverPlace(s3, databases));
      } finally {
        await postgres.stop();
        await s3.close();
      }
    },
    RUNS > 0 ? 2 * LONG_MS : 120_000,
  );
});
