import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createCache } from '../cache/cache.ts';
import type { Config, ListenAddress } from '../config/config.ts';
import type { Platform } from '../platform.ts';
import { createApp } from '../server/app.ts';
import type { Logger } from '../telemetry/logger.ts';
import { createPrometheusMetrics } from '../telemetry/prometheus.ts';
import { type EvictionSchedule, scheduleEvictions } from './node/eviction-schedule.ts';
import { createNodePlatform } from './node/node-platform.ts';
import { openDrivers } from './node/open-drivers.ts';
import { requestListener } from './node/request-listener.ts';
import { openTracing } from './open-tracing.ts';
import { composeServices } from './services.ts';

/** A Snowcap that answers requests. */
export interface RunningServer {
  /** Where it is reached from this machine. */
  readonly url: string;
  /** As clients list them in `trusted-public-keys`. */
  readonly publicKeys: readonly string[];
  /**
   * Stops accepting, lets transfers and fills end within `shutdownTimeoutMs`, drops the rest, writes what waits,
   * closes everything. Idempotent.
   */
  close(): Promise<void>;
}

export interface StartOptions {
  readonly logger: Logger;
  /** Of Snowcap. */
  readonly version: string;
  /** For tests that end the process at a write step. */
  readonly checkpoint?: Platform['checkpoint'];
}

/** How long an idle connection is kept, in milliseconds: longer than the 60 s of common proxies in front. */
const KEEP_ALIVE_MS = 75_000;

/** How often a shutdown looks for connections that have become idle, in milliseconds. */
const IDLE_SWEEP_MS = 100;

/**
 * Runs Snowcap as a process on Node. Does not wait for any upstream.
 *
 * @throws Error where the storage, the index, a key or the address cannot be had
 */
export async function startNode(config: Config, options: StartOptions): Promise<RunningServer> {
  const { logger, version } = options;
  const metrics = createPrometheusMetrics();
  const tracing = await openTracing(config, { version, logger, metrics, exporting: { kind: 'batches' } });
  const platform = createNodePlatform(logger, metrics, options.checkpoint, tracing?.tracer);
  const drivers = await openDrivers(config, platform, version);
  const services = await composeServices(config, drivers).catch(async (error: unknown) => {
    await drivers.close();
    throw error;
  });
  const cache = createCache(services);
  const app = createApp({
    cache,
    platform,
    version,
    narInfoMaxAge: Math.ceil(config.narInfoTtlMs / 1000),
    adminTokens: config.adminTokens,
    exposition: async () => {
      // With the index at fault, the other metrics are worth the more.
      const totals = await services.metadata.totals().catch(() => null);
      metrics.gauge('snowcap_present_bytes', totals?.presentBytes ?? Number.NaN);
      metrics.gauge('snowcap_present_nars', totals?.presentNars ?? Number.NaN);
      return await metrics.exposition();
    },
  });
  const server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, requestListener(app));
  let evictions: EvictionSchedule | null = null;
  const close = async (): Promise<void> => {
    evictions?.stop();
    const deadline = AbortSignal.timeout(config.shutdownTimeoutMs);
    await Promise.all([closeServer(server, deadline), cache.drain(deadline)]);
    // For what requests began that ended later than the fills did.
    await cache.drain(deadline);
    await platform.settled();
    await services.upstreams.close();
    await drivers.close();
    await tracing?.close();
  };
  try {
    const url = await listen(server, config.listen);
    platform.defer('start up', cache.startUp());
    evictions = scheduleEvictions(cache, config.evictionSchedule);
    let closing: Promise<void> | null = null;
    return { url, publicKeys: cache.publicKeys, close: () => (closing ??= close()) };
  } catch (error) {
    await close();
    throw error;
  }
}

function listen(server: Server, { host, port }: ListenAddress): Promise<string> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      const place = `${host ?? '*'}:${port}`;
      reject(new Error(`Cannot listen on ${place}: ${error.message}`, { cause: error }));
    });
    server.listen(port, host ?? undefined, () => {
      resolve(urlOf(server.address(), host));
    });
  });
}

function urlOf(address: AddressInfo | string | null, host: string | null): string {
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const name = host === null ? 'localhost' : host.includes(':') ? `[${host}]` : host;
  return `http://${name}:${port}`;
}

/** Lets the requests under way end until the deadline; then breaks their connections. */
async function closeServer(server: Server, deadline: AbortSignal): Promise<void> {
  const cut = (): void => server.closeAllConnections();
  if (deadline.aborted) cut();
  deadline.addEventListener('abort', cut, { once: true });
  // A connection that a client keeps open is idle only when its answer is over, and nobody says when that is.
  const sweep = setInterval(() => server.closeIdleConnections(), IDLE_SWEEP_MS);
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
  });
  clearInterval(sweep);
  deadline.removeEventListener('abort', cut);
}
