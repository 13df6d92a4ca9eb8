import type { Hono } from 'hono';
import { type Cache, createCache } from '../../cache/cache.ts';
import { createApp } from '../../server/app.ts';
import type { AppEnv, Bindings } from '../../server/env.ts';
import type { Logger } from '../../telemetry/logger.ts';
import { noMetrics } from '../../telemetry/metrics.ts';
import type { OpenTracing } from '../../telemetry/otel-tracing.ts';
import { wireServices } from '../services.ts';
import { type JobQueue, queueIn, type WorkerContext, type WorkerEnv } from './bindings.ts';
import type { Isolate } from './isolate.ts';
import { openDrivers } from './open-drivers.ts';
import { sendStreamOf } from './send-stream.ts';
import { createWorkersPlatform } from './workers-platform.ts';

/** A Snowcap for one request, over the memory of its isolate. */
export interface Wired {
  readonly cache: Cache;
  readonly app: Hono<AppEnv>;
  /** To be given to the app with the request. */
  readonly bindings: Bindings;
  readonly logger: Logger;
  /** Closes its connections when everything is over: the body, and what was deferred. */
  close(): Promise<void>;
}

/** Makes no connection: they come where they are used. */
export async function wire(
  isolate: Isolate,
  env: WorkerEnv,
  context: WorkerContext,
  version: string,
): Promise<Wired> {
  const queue = queueIn(env);
  const { config, logger, signers, memory, upstreams } = isolate;
  const tracing = await openTracing(config, version, logger, context);
  const platform = createWorkersPlatform(logger, context, queue, tracing?.tracer);
  const drivers = await openDrivers(config, env, platform, version);
  const cache = createCache(wireServices(config, drivers, { signers, upstreams }), memory);
  if (!isolate.prepared) {
    isolate.prepared = true;
    platform.defer('prepare the bucket', prepare(cache, queue));
  }
  const narInfoMaxAge = Math.ceil(config.narInfoTtlMs / 1000);
  return {
    cache,
    logger,
    bindings: { sendStream: sendStreamOf(platform) },
    app: createApp({ cache, platform, version, narInfoMaxAge, adminTokens: config.adminTokens }),
    async close() {
      await platform.settled();
      await drivers.close();
      await tracing?.close();
    },
  };
}

/** The first request of an isolate looks whether the bucket is as a start would leave it. */
async function prepare(cache: Cache, queue: JobQueue | null): Promise<void> {
  if (await cache.isPrepared()) return;
  // What is not trusted any more may be much, and what is to be verified may be large.
  if (queue === null) await cache.prepareBucket();
  else await queue.send({ kind: 'start-up' });
}

/** Loads the libraries of traces only where there are some. */
async function openTracing(
  { tracing }: Isolate['config'],
  version: string,
  logger: Logger,
  context: WorkerContext,
): Promise<OpenTracing | null> {
  if (tracing === null) return null;
  const { createTracing } = await import('../../telemetry/otel-tracing.ts');
  const defer = (work: Promise<void>): void => context.waitUntil(work);
  const exporting = { kind: 'invocations', defer } as const;
  return createTracing({ ...tracing, version, exporting, logger, metrics: noMetrics });
}
