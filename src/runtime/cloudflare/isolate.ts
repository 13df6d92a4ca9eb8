import { createCacheMemory, type CacheMemory } from '../../cache/cache-memory.ts';
import type { Config } from '../../config/config.ts';
import { formatProblem, loadConfig } from '../../config/load.ts';
import type { Signer } from '../../nix/signing-key.ts';
import { createConsoleLogger } from '../../telemetry/console-logger.ts';
import type { Logger } from '../../telemetry/logger.ts';
import { noMetrics } from '../../telemetry/metrics.ts';
import { systemClock } from '../../telemetry/system-clock.ts';
import { createUpstreamMemory, type UpstreamMemory } from '../../upstream/upstream-memory.ts';
import { cacheSettingsOf, createSigners, upstreamSettingsOf } from '../services.ts';
import { bindingProblems, settingsIn, type WorkerEnv } from './bindings.ts';
import { createEdgeCache, type EdgeCache } from './edge-cache.ts';

/** What the requests of an isolate share: values alone, no promise and nothing that is open. */
export interface Isolate {
  readonly config: Config;
  readonly logger: Logger;
  readonly signers: readonly Signer[];
  readonly memory: CacheMemory;
  readonly upstreams: UpstreamMemory;
  readonly edge: EdgeCache;
  /** Whether a request looks after the bucket already, or has. */
  prepared: boolean;
}

/** The defaults that differ here: 128 MB an isolate, many isolates, no disk. */
const DEFAULTS = {
  SNOWCAP_STORAGE: 'r2:CACHE',
  SNOWCAP_DATABASE: 'd1:INDEX',
  SNOWCAP_LOCK: 'database',
  SNOWCAP_BUFFER_LIMIT: '32M',
  SNOWCAP_SPOOL_LIMIT: '0',
} as const;

/** A configuration that cannot be used, with everything that is wrong with it, one problem a line. Holds no secret. */
export class MisconfiguredError extends Error {
  override readonly name = 'MisconfiguredError';
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(`The configuration of this Worker is wrong:\n${problems.join('\n')}`);
    this.problems = problems;
  }
}

/**
 * Reads the configuration and makes what lasts. Asks nobody.
 *
 * @throws MisconfiguredError
 */
export async function openIsolate(env: WorkerEnv): Promise<Isolate> {
  const loaded = await loadConfig({
    environment: settingsIn(env),
    hostname: 'workers',
    terminal: false,
    runtime: 'workers',
    defaults: DEFAULTS,
  });
  const problems = loaded.ok ? bindingProblems(loaded.config, env) : loaded.problems;
  if (!loaded.ok || problems.length > 0) throw new MisconfiguredError(problems.map(formatProblem));
  const { config } = loaded;
  if (config.secretKeys.kind !== 'given') {
    throw new MisconfiguredError(['SNOWCAP_SECRET_KEY: expected a secret with the signing key']);
  }
  const logger = createConsoleLogger({ level: config.logLevel });
  if (config.narDelivery === 'redirect' && config.storage.kind !== 's3') {
    logger.warn('The storage has no URLs to redirect to: NARs go through this Worker', {
      storage: config.storage.kind,
    });
  }
  const here = { clock: systemClock, metrics: noMetrics, fillsOutliveClients: false };
  return {
    config,
    logger,
    signers: await createSigners(config.secretKeys.keys),
    memory: createCacheMemory(cacheSettingsOf(config, 'workers'), here),
    upstreams: createUpstreamMemory(upstreamSettingsOf(config), () => Math.random()),
    edge: createEdgeCache({ ttlMs: config.narInfoTtlMs, logger }),
    prepared: false,
  };
}
