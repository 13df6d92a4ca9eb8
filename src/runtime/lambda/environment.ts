import { type Cache, createCache } from '../../cache/cache.ts';
import { createCacheMemory } from '../../cache/cache-memory.ts';
import { CacheError } from '../../cache/errors.ts';
import type { Config } from '../../config/config.ts';
import { digestNar } from '../../nar/digest.ts';
import type { BackgroundJob, Platform } from '../../platform.ts';
import { createApp } from '../../server/app.ts';
import { noMetrics } from '../../telemetry/metrics.ts';
import type { BufferedLogger } from '../../telemetry/pino-logger.ts';
import { createUpstreamMemory } from '../../upstream/upstream-memory.ts';
import { createNodePlatform, type NodePlatform } from '../node/node-platform.ts';
import { openDrivers } from '../node/open-drivers.ts';
import { openTracing } from '../open-tracing.ts';
import { cacheSettingsOf, createSigners, upstreamSettingsOf, wireServices } from '../services.ts';

/** What an environment of Lambda keeps from one invocation to the next: connections, and what is remembered. */
export interface LambdaEnvironment {
  readonly logger: BufferedLogger;
  /**
   * A cache for one invocation. Between two of them the environment stands still: nothing may be left under way.
   *
   * @param remainingMs milliseconds until Lambda ends the invocation
   */
  begin(remainingMs: number): Invocation;
}

export interface Invocation {
  readonly cache: Cache;
  /** Aborted shortly before Lambda ends the invocation. */
  readonly deadline: AbortSignal;
  fetch(request: Request): Response | Promise<Response>;
  /** Lets all that goes on after the answer end, or drops it at the deadline. Never rejects. */
  end(): Promise<void>;
}

export interface EnvironmentOptions {
  readonly logger: BufferedLogger;
  /** Of Snowcap. */
  readonly version: string;
  /** Hands work to another invocation. */
  readonly schedule: (job: BackgroundJob) => Promise<void>;
}

/** What is kept of an invocation's time for its end, in milliseconds. */
const RESERVE_MS = 1_500;

/** @throws Error where a driver cannot be opened, with what to do about it */
export async function openEnvironment(
  config: Config,
  { logger, version, schedule }: EnvironmentOptions,
): Promise<LambdaEnvironment> {
  const base = createNodePlatform(logger, noMetrics);
  let current: NodePlatform = base;
  const tracing = await openTracing(config, {
    version,
    logger,
    metrics: noMetrics,
    exporting: { kind: 'invocations', defer: (work) => current.defer('send spans', work) },
  });
  const { secretKeys, ...drivers } = await openDrivers(config, base, version);
  const signers = await createSigners(secretKeys);
  const upstreams = createUpstreamMemory(upstreamSettingsOf(config), () => base.random());
  const memory = createCacheMemory(cacheSettingsOf(config, 'lambda'), {
    ...base,
    fillsOutliveClients: false,
  });
  return {
    logger,
    begin(remainingMs) {
      const own = createNodePlatform(logger, noMetrics, undefined, tracing?.tracer);
      current = own;
      const platform: Platform = { ...own, fillsOutliveClients: false, schedule };
      // In this thread: there is one request at a time, and no other whose answer would wait.
      const services = wireServices(
        config,
        { ...drivers, runtime: 'lambda', platform, digestNar },
        { signers, upstreams },
      );
      const cache = createCache(services, memory);
      const { deadline, clear } = deadlineIn(remainingMs - RESERVE_MS);
      // Also what an answer waits for.
      deadline.addEventListener('abort', () => void cache.drain(deadline), { once: true });
      const app = createApp({
        cache,
        platform,
        version,
        narInfoMaxAge: Math.ceil(config.narInfoTtlMs / 1000),
        adminTokens: config.adminTokens,
      });
      return {
        cache,
        deadline,
        fetch: (request) => app.fetch(request),
        async end() {
          await cache.drain(deadline);
          await Promise.race([own.settled(), whenAborted(deadline)]);
          await services.upstreams.close();
          clear();
          await logger.flush();
        },
      };
    },
  };
}

function deadlineIn(milliseconds: number): { readonly deadline: AbortSignal; clear(): void } {
  const controller = new AbortController();
  const why = new CacheError('timeout', 'shutting_down', 'The function ends before the answer is there');
  const timer = setTimeout(() => controller.abort(why), Math.max(0, milliseconds));
  return { deadline: controller.signal, clear: () => clearTimeout(timer) };
}

function whenAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
