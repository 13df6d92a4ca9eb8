import { patientStorage } from '../cache/patient-storage.ts';
import type { CacheServices, CacheSettings } from '../cache/services.ts';
import type { Config } from '../config/config.ts';
import type { RuntimeKind } from '../config/runtime-fit.ts';
import { digestNar } from '../nar/digest.ts';
import { createSigner, formatPublicKey, type SecretKey, type Signer } from '../nix/signing-key.ts';
import { countingOperations } from '../telemetry/counting-operations.ts';
import { tracingOperations } from '../telemetry/tracing-operations.ts';
import { createUpstreams } from '../upstream/client.ts';
import type { UpstreamSettings } from '../upstream/settings.ts';
import { tracingTransport } from '../upstream/tracing-transport.ts';
import type { Credentials } from '../upstream/upstream.ts';
import type { UpstreamMemory } from '../upstream/upstream-memory.ts';
import type { Transport } from '../upstream/transport.ts';

/** What a runtime brings along: everything that differs between Node, Workers and Lambda. */
export type Drivers = Pick<
  CacheServices,
  'platform' | 'storage' | 'metadata' | 'upkeep' | 'locks' | 'spool' | 'memorySpool'
> & {
  readonly runtime: RuntimeKind;
  readonly transport: Transport;
  readonly secretKeys: readonly SecretKey[];
  readonly credentials: (url: URL) => Credentials | null;
  /** @default in this thread */
  readonly digestNar?: CacheServices['digestNar'];
};

/** What outlives a request where the services are composed anew for each of them. */
export interface Lasting {
  readonly signers: readonly Signer[];
  readonly upstreams?: UpstreamMemory;
}

/** Composes the services of the use cases from a configuration and the drivers of a runtime. */
export async function composeServices(config: Config, drivers: Drivers): Promise<CacheServices> {
  return wireServices(config, drivers, { signers: await createSigners(drivers.secretKeys) });
}

export async function createSigners(keys: readonly SecretKey[]): Promise<readonly Signer[]> {
  return await Promise.all(keys.map((key) => createSigner(key)));
}

/** The same where the signers are made already. Does no I/O, so that it may be done for each request. */
export function wireServices(
  config: Config,
  drivers: Omit<Drivers, 'secretKeys'>,
  lasting: Lasting,
): CacheServices {
  const { platform } = drivers;
  const { tracer } = platform;
  // Where nothing is traced, nothing stands between.
  const observed = <T extends object>(target: T, part: 'storage' | 'index' | 'lock'): T =>
    tracer === undefined ? target : tracingOperations(target, part);
  const upstreams = createUpstreams({
    upstreams: config.upstreams,
    transport: tracer === undefined ? drivers.transport : tracingTransport(drivers.transport),
    clock: platform.clock,
    random: () => platform.random(),
    logger: platform.logger.with({ part: 'upstream' }),
    metrics: platform.metrics,
    storeDir: config.storeDir,
    credentials: drivers.credentials,
    settings: upstreamSettingsOf(config),
    ...(lasting.upstreams === undefined
      ? {}
      : {
          memory: lasting.upstreams,
          background: (work) => platform.defer('look after an upstream', work),
        }),
  });
  // A store that buffers what it is given is reached over a network; a local one answers or fails, and needs no timer.
  const isRemote = drivers.storage.putMemory !== undefined;
  const storage = isRemote ? patientStorage(drivers.storage, platform) : drivers.storage;
  return {
    platform,
    storage: countingOperations(observed(storage, 'storage'), (operation, outcome) => {
      platform.metrics.count('snowcap_storage_operations_total', { operation, outcome });
    }),
    metadata: countingOperations(observed(drivers.metadata, 'index'), (operation, outcome) => {
      platform.metrics.count('snowcap_index_queries_total', { operation, outcome });
    }),
    upkeep: countingOperations(observed(drivers.upkeep, 'index'), (operation, outcome) => {
      platform.metrics.count('snowcap_index_queries_total', { operation, outcome });
    }),
    locks: observed(drivers.locks, 'lock'),
    upstreams,
    memorySpool: drivers.memorySpool,
    spool: drivers.spool,
    signers: lasting.signers,
    trustedKeys: new Map(config.trustedPublicKeys.map((key) => [formatPublicKey(key), key])),
    digestNar: drivers.digestNar ?? digestNar,
    settings: cacheSettingsOf(config, drivers.runtime),
  };
}

export function upstreamSettingsOf({ upstreamTimeouts }: Config): Partial<UpstreamSettings> {
  return {
    narInfoHeadersTimeoutMs: Math.min(5_000, upstreamTimeouts.headersMs),
    narHeadersTimeoutMs: upstreamTimeouts.headersMs,
    idleTimeoutMs: upstreamTimeouts.idleMs,
  };
}

export function cacheSettingsOf(config: Config, runtime: RuntimeKind): CacheSettings {
  const { narDelivery } = config;
  const onLambda = runtime === 'lambda';
  return {
    storeDir: config.storeDir,
    verify: config.verify,
    bufferLimit: config.bufferLimit,
    spoolLimit: config.spoolLimit,
    maxSize: config.maxSize,
    lowWater: config.evictionLowWater,
    evictPushedAfterMs: config.evictPushedAfterMs,
    metadataRetentionMs: config.metadataRetentionMs,
    metadataMaxPaths: config.metadataMaxPaths,
    narInfoTtlMs: config.narInfoTtlMs,
    negativeTtlMs: config.negativeTtlMs,
    priority: config.priority,
    fillWaitMs: config.fillWaitMs,
    delivery: narDelivery === 'auto' ? (onLambda ? 'redirect' : 'proxy') : narDelivery,
    redirectTtlSeconds: Math.ceil(config.redirectTtlMs / 1000),
    // Elsewhere a miss is streamed: nobody pays for its bytes by the second.
    fillBeforeRedirect: onLambda ? config.inlineFillLimit : null,
  };
}
