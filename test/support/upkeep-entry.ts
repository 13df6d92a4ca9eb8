import { type Cache, createCache } from '../../src/cache/cache.ts';
import { reindex } from '../../src/cache/reindex.ts';
import type { CacheServices } from '../../src/cache/services.ts';
import { verifyCache } from '../../src/cache/verify/verify.ts';
import { loadConfig } from '../../src/config/load.ts';
import { createNodePlatform } from '../../src/runtime/node/node-platform.ts';
import { openDrivers } from '../../src/runtime/node/open-drivers.ts';
import { composeServices } from '../../src/runtime/services.ts';
import { silentLogger } from '../../src/telemetry/logger.ts';
import { noMetrics } from '../../src/telemetry/metrics.ts';
import { killAt } from './checkpoint.ts';

/*
 * One piece of upkeep in a process of its own, over what the environment names: `OPERATION ARGUMENT kill STEP N` ends it
 * with SIGKILL before the step is taken for the N-th time; `OPERATION ARGUMENT record` tells each step, a line each, and
 * what came of it as the last one. The argument is a store path where one is needed.
 */
const [, , operation = '', argument = '', command, step = '', occurrence = ''] = process.argv;

/** What there is to do, and what it says at the end. */
const OPERATIONS: Readonly<Record<string, (cache: Cache, services: CacheServices) => Promise<unknown>>> = {
  evict: async (cache) => (await cache.evict()).outcome,
  reindex: async (_cache, services) => (await reindex(services, { concurrency: 1 })).adopted,
  verify: async (_cache, services) =>
    (await verifyCache(services, { repair: true, content: true, graceMs: 0, concurrency: 1 })).remaining,
  pin: async (cache) =>
    (await cache.pins.put({ name: 'pin', storePath: argument, expiresAt: null })).pin.paths,
  unpin: async (cache) => await cache.pins.delete('pin'),
  ban: async (cache) =>
    (
      await cache.removals.remove(argument.slice('/nix/store/'.length, '/nix/store/'.length + 32), {
        ban: { reason: 'bad' },
      })
    ).kind,
};

const loaded = await loadConfig({ environment: process.env, hostname: 'upkeep.test', terminal: false });
if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
const work = OPERATIONS[operation];
if (work === undefined) throw new Error(`There is no operation ${operation}`);

let onStep: (taken: string) => void = () => undefined;
const platform = createNodePlatform(silentLogger, noMetrics, (taken) => onStep(taken));
const drivers = await openDrivers(loaded.config, platform, 'test');
const services = await composeServices(loaded.config, drivers);
onStep =
  command === 'kill' ? killAt(step, Number(occurrence)) : (taken) => process.stdout.write(`${taken}\n`);
const said = await work(createCache(services), services);
onStep = () => undefined;
await platform.settled();
await services.upstreams.close();
await drivers.close();
process.stdout.write(`${String(said)}\n`);
