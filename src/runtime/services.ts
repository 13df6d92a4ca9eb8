import type { CacheServices, CacheSettings } from '../cache/services.ts';
import type { Config } from '../config/schema.ts';
import { digestNar } from '../nar/digest.ts';
import { createSigner, formatPublicKey, type SecretKey } from '../nix/signing-key.ts';
import { countingOperations } from '../telemetry/counting-operations.ts';
import { createUpstreams } from '../upstream/client.ts';
import type { Credentials } from '../upstream/upstream.ts';
import type { Transport } from '../upstream/transport.ts';

/** What a runtime brings along: everything that differs between Node, Workers and Lambda. */
export type Drivers = Pick<
  CacheServices,
  'platform' | 'storage' | 'metadata' | 'locks' | 'spool' | 'memorySpool'
> & {
  readonly transport: Transport;
  readonly secretKeys: readonly SecretKey[];
  readonly credentials: (url: URL) => Credentials | null;
  /** @default in this thread */
  readonly digestNar?: CacheServices['digestNar'];
};

/** Composes the services of the use cases from a configuration and the drivers of a runtime. */
export async function composeServices(config: Config, drivers: Drivers): Promise<CacheServices> {
  const { platform } = drivers;
  const upstreams = createUpstreams({
    upstreams: config.upstreams,
    transport: drivers.transport,
    clock: platform.clock,
    random: () => platform.random(),
    logger: platform.logger.with({ part: 'upstream' }),
    metrics: platform.metrics,
    storeDir: config.storeDir,
    credentials: drivers.credentials,
    settings: {
      narInfoHeadersTimeoutMs: Math.min(5_000, config.upstreamTimeouts.headersMs),
      narHeadersTimeoutMs: config.upstreamTimeouts.headersMs,
      idleTimeoutMs: config.upstreamTimeouts.idleMs,
    },
  });
  return {
    platform,
    storage: countingOperations(drivers.storage, (operation, outcome) => {
      platform.metrics.count('snowcap_storage_operations_total', { operation, outcome });
    }),
    metadata: countingOperations(drivers.metadata, (operation, outcome) => {
      platform.metrics.count('snowcap_index_queries_total', { operation, outcome });
    }),
    locks: drivers.locks,
    upstreams,
    memorySpool: drivers.memorySpool,
    spool: drivers.spool,
    signers: await Promise.all(drivers.secretKeys.map((key) => createSigner(key))),
    trustedKeys: new Map(config.trustedPublicKeys.map((key) => [formatPublicKey(key), key])),
    digestNar: drivers.digestNar ?? digestNar,
    settings: settingsOf(config),
  };
}

function settingsOf(config: Config): CacheSettings {
  return {
    storeDir: config.storeDir,
    verify: config.verify,
    bufferLimit: config.bufferLimit,
    spoolLimit: config.spoolLimit,
    maxBodySize: config.maxSize,
    narInfoTtlMs: config.narInfoTtlMs,
    negativeTtlMs: config.negativeTtlMs,
    priority: config.priority,
    fillWaitMs: 10_000,
    delivery: 'proxy',
    redirectTtlSeconds: 300,
    fillBeforeRedirect: null,
  };
}
