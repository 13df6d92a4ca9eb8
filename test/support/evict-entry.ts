import { createCache } from '../../src/cache/cache.ts';
import { loadConfig } from '../../src/config/load.ts';
import { createNodePlatform } from '../../src/runtime/node/node-platform.ts';
import { openDrivers } from '../../src/runtime/node/open-drivers.ts';
import { composeServices } from '../../src/runtime/services.ts';
import { silentLogger } from '../../src/telemetry/logger.ts';
import { noMetrics } from '../../src/telemetry/metrics.ts';
import { killAt } from './checkpoint.ts';

/*
 * One eviction in a process of its own, over what the environment names. `kill STEP N` ends it with SIGKILL before the
 * step is taken for the N-th time; without that it tells each step, a line each, and the outcome as the last one.
 */
const [, , command, step = '', occurrence = ''] = process.argv;
const loaded = await loadConfig({ environment: process.env, hostname: 'evict.test', terminal: false });
if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));

let onStep: (taken: string) => void = () => undefined;
const platform = createNodePlatform(silentLogger, noMetrics, (taken) => onStep(taken));
const drivers = await openDrivers(loaded.config, platform, 'test');
const services = await composeServices(loaded.config, drivers);
onStep =
  command === 'kill' ? killAt(step, Number(occurrence)) : (taken) => process.stdout.write(`${taken}\n`);
const { outcome } = await createCache(services).evict();
onStep = () => undefined;
await platform.settled();
await services.upstreams.close();
await drivers.close();
process.stdout.write(`${outcome}\n`);
