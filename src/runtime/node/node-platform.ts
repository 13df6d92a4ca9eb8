import type { Platform } from '../../platform.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Metrics } from '../../telemetry/metrics.ts';
import type { Tracer } from '../../telemetry/tracing.ts';
import { systemClock } from '../../telemetry/system-clock.ts';

/** The platform of a process that lives on, with its deferred work at hand for the shutdown. */
export interface NodePlatform extends Platform {
  /** Resolves when no deferred work is left. */
  settled(): Promise<void>;
}

export function createNodePlatform(
  logger: Logger,
  metrics: Metrics,
  checkpoint?: Platform['checkpoint'],
  tracer?: Tracer,
): NodePlatform {
  const deferred = new Set<Promise<void>>();
  return {
    clock: systemClock,
    random: () => Math.random(),
    logger,
    metrics,
    fillsOutliveClients: true,
    ...(checkpoint === undefined ? {} : { checkpoint }),
    ...(tracer === undefined ? {} : { tracer }),
    defer(what, work) {
      const settled = work
        .then(
          () => undefined,
          (error: unknown) => {
            metrics.count('snowcap_background_failures_total', { what: what.split(' ', 1)[0] ?? what });
            logger.error('deferred work failed', { what, error });
          },
        )
        .finally(() => deferred.delete(settled));
      deferred.add(settled);
    },
    async settled() {
      while (deferred.size > 0) await Promise.all(deferred);
    },
  };
}
