import { type Cache, createCache } from '../cache/cache.ts';
import type { Config } from '../config/config.ts';
import type { CliContext } from './context.ts';
import { type OpenCache, withServices } from './with-services.ts';

/** As `withServices`, with the use cases over them. What they do in the background is ended before all is closed. */
export async function withCache<Result>(
  config: Config,
  context: CliContext,
  work: (open: OpenCache & { readonly cache: Cache }) => Promise<Result>,
): Promise<Result> {
  return await withServices(config, context, async (open) => {
    const cache = createCache(open.services);
    try {
      return await work({ ...open, cache });
    } finally {
      await cache.drain(AbortSignal.timeout(config.shutdownTimeoutMs));
    }
  });
}
