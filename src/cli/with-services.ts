import type { Config } from '../config/config.ts';
import type { CacheServices } from '../cache/services.ts';
import type { NodePlatform } from '../runtime/node/node-platform.ts';
import type { CliContext } from './context.ts';
import { requireFiles } from './required-files.ts';

/** What a command that works on a cache has of it. */
export interface OpenCache {
  readonly services: CacheServices;
  readonly platform: NodePlatform;
}

/**
 * Opens the storage, the index, the locks and the upstreams of a configuration for one command, beside the instances
 * that serve from them, and closes them after it. What the use cases log goes to standard error.
 *
 * @throws Failure where a file is missing, Error where something cannot be opened, and what `work` throws
 */
export async function withServices<Result>(
  config: Config,
  context: CliContext,
  work: (open: OpenCache) => Promise<Result>,
): Promise<Result> {
  const [{ createPinoLogger }, { createNodePlatform }, { openDrivers }, { composeServices }, { noMetrics }] =
    await Promise.all([
      import('../telemetry/pino-logger.ts'),
      import('../runtime/node/node-platform.ts'),
      import('../runtime/node/open-drivers.ts'),
      import('../runtime/services.ts'),
      import('../telemetry/metrics.ts'),
    ]);
  await requireFiles(config);
  const logger = await createPinoLogger({
    level: config.logLevel === 'info' ? 'warn' : config.logLevel,
    format: config.logFormat,
    destination: context.stderr,
  });
  const platform = createNodePlatform(logger, noMetrics);
  try {
    const drivers = await openDrivers(config, platform, context.version);
    try {
      const services = await composeServices(config, drivers);
      try {
        return await work({ services, platform });
      } finally {
        await platform.settled();
        await services.upstreams.close();
      }
    } finally {
      await drivers.close();
    }
  } finally {
    await logger.flush();
  }
}
