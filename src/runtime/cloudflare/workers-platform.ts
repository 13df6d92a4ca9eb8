import type { Platform } from '../../platform.ts';
import type { Logger } from '../../telemetry/logger.ts';
import { noMetrics } from '../../telemetry/metrics.ts';
import { systemClock } from '../../telemetry/system-clock.ts';
import type { Tracer } from '../../telemetry/tracing.ts';
import type { JobQueue, WorkerContext } from './bindings.ts';

/** The platform of one request of a Worker. */
export interface WorkersPlatform extends Platform {
  /** Resolves when no deferred work is left. */
  settled(): Promise<void>;
}

/** Without metrics: Cloudflare counts requests, errors and CPU time itself. */
export function createWorkersPlatform(
  logger: Logger,
  context: WorkerContext,
  queue: JobQueue | null,
  tracer?: Tracer,
): WorkersPlatform {
  const deferred = new Set<Promise<void>>();
  return {
    clock: systemClock,
    random: () => Math.random(),
    logger,
    metrics: noMetrics,
    // What a client leaves goes on for 30 seconds at most: too short for a fill that nobody waits for.
    fillsOutliveClients: false,
    defer(what, work) {
      const settled = work
        .then(
          () => undefined,
          (error: unknown) => logger.error('deferred work failed', { what, error }),
        )
        .finally(() => deferred.delete(settled));
      deferred.add(settled);
      context.waitUntil(settled);
    },
    ...(tracer === undefined ? {} : { tracer }),
    async settled() {
      while (deferred.size > 0) await Promise.all(deferred);
    },
    ...(queue === null
      ? {}
      : {
          async schedule(job) {
            await queue.send(job);
          },
        }),
  };
}
