import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Cache, createCache } from '../../src/cache/cache.ts';
import type { CacheServices, CacheSettings } from '../../src/cache/services.ts';
import { createSqliteStore } from '../../src/database/sqlite/node.ts';
import { createLocalLocks } from '../../src/lock/local.ts';
import { digestNar } from '../../src/nar/digest.ts';
import {
  createSigner,
  formatPublicKey,
  generateSecretKey,
  parsePublicKey,
} from '../../src/nix/signing-key.ts';
import type { SecretKey } from '../../src/nix/signing-key.ts';
import type { Clock, Platform } from '../../src/platform.ts';
import { createNodePlatform } from '../../src/runtime/node/node-platform.ts';
import { requestListener } from '../../src/runtime/node/request-listener.ts';
import { createApp } from '../../src/server/app.ts';
import { createDiskSpool } from '../../src/spool/disk.ts';
import { createMemorySpool } from '../../src/spool/memory.ts';
import { createFileStore } from '../../src/storage/file.ts';
import { createMemoryStore } from '../../src/storage/memory.ts';
import { countingOperations } from '../../src/telemetry/counting-operations.ts';
import type { LogFields, Logger } from '../../src/telemetry/logger.ts';
import type { Labels, Metrics } from '../../src/telemetry/metrics.ts';
import { createUpstreams } from '../../src/upstream/client.ts';
import type { UpstreamSettings } from '../../src/upstream/settings.ts';
import { createUndiciTransport } from '../../src/upstream/undici-transport.ts';
import { parseUpstreamUrl } from '../../src/upstream/upstream-url.ts';
import { upstreamPublicKey } from './signed-path.ts';

export interface TestCacheOptions {
  /** As in SNOWCAP_UPSTREAMS. */
  readonly upstreams?: readonly string[];
  /** Default: the key of `signedPath`. */
  readonly trustedPublicKeys?: readonly string[];
  readonly secretKeys?: readonly SecretKey[];
  readonly settings?: Partial<CacheSettings>;
  /** Over short waits: 200 ms for headers, 400 ms of a body that stands still, back-off of a millisecond. */
  readonly upstreamSettings?: Partial<UpstreamSettings>;
  /** Bodies in memory, or in files below `directory`. Default `memory`. */
  readonly storage?: 'memory' | 'file';
  /** Where storage, index and spool are; left out: a new temporary directory, removed by `close`. */
  readonly directory?: string;
  /** Default `:memory:`. */
  readonly database?: string;
  /** Default `disk`. */
  readonly spool?: 'disk' | 'none';
  /** Another instance whose storage, index and locks this one uses too. Closed after this one. */
  readonly sharing?: TestCache;
  /** What differs from Node. */
  readonly platform?: Partial<Pick<Platform, 'fillsOutliveClients' | 'schedule'>>;
  readonly clock?: Clock;
  readonly checkpoint?: Platform['checkpoint'];
  /** Replaces any service: gets those composed. */
  readonly replace?: (services: CacheServices) => Partial<CacheServices>;
}

export interface LoggedLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly message: string;
  readonly fields: LogFields;
}

/** A Snowcap in this process, of real drivers, behind a real HTTP server as on Node. */
export interface TestCache {
  /** As `http://127.0.0.1:1234`. */
  readonly url: string;
  readonly cache: Cache;
  readonly services: CacheServices;
  /** What an instance that is `sharing` uses too. */
  readonly drivers: Pick<CacheServices, 'storage' | 'metadata' | 'upkeep' | 'locks'>;
  /** Storage (`storage/`), index and spool (`spool/`) of this cache. */
  readonly directory: string;
  /** How often operations were called: `storage.get`, `metadata.getPath`, … */
  readonly operations: Readonly<Record<string, number>>;
  readonly logs: readonly LoggedLine[];
  /** Value of a gauge, or sum of a counter over the label sets that hold these labels. */
  metric(name: string, labels?: Labels): number;
  /** The highest value that a gauge ever had. */
  peak(gauge: string): number;
  get(path: string, init?: RequestInit): Promise<Response>;
  /** Resolves when no fill is under way, no deferred work is left and every budget is free. */
  settled(): Promise<void>;
  /** Files that the spool holds now. */
  spooled(): Promise<readonly string[]>;
  close(): Promise<void>;
  /** Leaves all that is under way where it is, as a process does that is killed. What it was given stays open. */
  abandon(): Promise<void>;
}

const NO_LIMIT = 2 ** 40;

export async function startTestCache(options: TestCacheOptions = {}): Promise<TestCache> {
  const directory = options.directory ?? (await mkdtemp(join(tmpdir(), 'snowcap-laws-')));
  const operations: Record<string, number> = {};
  const counted = <T extends object>(what: string, target: T): T =>
    countingOperations(target, (operation) => {
      const name = `${what}.${operation}`;
      operations[name] = (operations[name] ?? 0) + 1;
    });
  const logs: LoggedLine[] = [];
  const metrics = recordingMetrics();
  const nodePlatform = createNodePlatform(recordingLogger(logs), metrics, options.checkpoint);
  const platform: Platform = {
    ...nodePlatform,
    ...(options.clock === undefined ? {} : { clock: options.clock }),
    ...options.platform,
  };
  const checkpoint = options.checkpoint === undefined ? {} : { checkpoint: options.checkpoint };
  const drivers = options.sharing?.drivers ?? {
    storage:
      options.storage === 'file'
        ? await createFileStore({ root: join(directory, 'storage'), ...checkpoint })
        : createMemoryStore(),
    ...(await openIndex(options.database ?? ':memory:', checkpoint)),
    locks: createLocalLocks({ clock: platform.clock }),
  };
  const spool = await createDiskSpool({ directory: join(directory, 'spool'), ...checkpoint });
  const transport = createUndiciTransport({ userAgent: 'snowcap/test', lingerMs: 10 });
  const upstreams = createUpstreams({
    upstreams: (options.upstreams ?? []).map(parseUpstreamUrl),
    transport,
    clock: platform.clock,
    random: () => 0.5,
    logger: platform.logger,
    metrics,
    settings: {
      hedgeMs: 50,
      narInfoHeadersTimeoutMs: 400,
      narHeadersTimeoutMs: 400,
      idleTimeoutMs: 400,
      backoffBaseMs: 1,
      backoffCapMs: 2,
      ...options.upstreamSettings,
    },
  });
  const trusted = (options.trustedPublicKeys ?? [await upstreamPublicKey()]).map(parsePublicKey);
  const secretKeys = options.secretKeys ?? [await generateSecretKey('snowcap.test-1')];
  const composed: CacheServices = {
    platform,
    storage: counted('storage', drivers.storage),
    metadata: counted('metadata', drivers.metadata),
    upkeep: counted('upkeep', drivers.upkeep),
    locks: counted('locks', drivers.locks),
    upstreams,
    memorySpool: createMemorySpool(),
    spool: options.spool === 'none' ? null : spool,
    signers: await Promise.all(secretKeys.map((key) => createSigner(key))),
    trustedKeys: new Map(trusted.map((key) => [formatPublicKey(key), key])),
    digestNar,
    settings: {
      storeDir: '/nix/store',
      verify: 'nar',
      bufferLimit: 64 * 2 ** 20,
      spoolLimit: NO_LIMIT,
      maxSize: NO_LIMIT,
      lowWater: 0.9,
      evictPushedAfterMs: null,
      metadataRetentionMs: null,
      metadataMaxPaths: NO_LIMIT,
      narInfoTtlMs: 0,
      negativeTtlMs: 0,
      priority: 30,
      fillWaitMs: 10_000,
      delivery: 'proxy',
      redirectTtlSeconds: 300,
      fillBeforeRedirect: null,
      ...options.settings,
    },
  };
  const services: CacheServices = { ...composed, ...options.replace?.(composed) };
  const cache = createCache(services);
  const app = createApp({ cache, platform: services.platform, version: 'test', narInfoMaxAge: 60 });
  const server = createServer(requestListener(app));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}`;

  const settled = async (): Promise<void> => {
    const busy = (): string | null => {
      for (const gauge of ['snowcap_fills_in_flight', 'snowcap_buffer_bytes', 'snowcap_spool_bytes']) {
        if (metrics.metric(gauge) !== 0) return `${gauge} is ${metrics.metric(gauge)}`;
      }
      return null;
    };
    await until(
      () => busy() === null,
      () => busy() ?? '',
    );
    await nodePlatform.settled();
  };

  return {
    url,
    cache,
    services,
    drivers,
    directory,
    operations,
    logs,
    metric: metrics.metric,
    peak: metrics.peak,
    get: (path, init) => fetch(`${url}${path}`, init),
    settled,
    async spooled() {
      const entries = await readdir(join(directory, 'spool'), { recursive: true, withFileTypes: true });
      return entries.filter((entry) => entry.isFile()).map((entry) => entry.name);
    },
    async abandon() {
      server.close();
      server.closeAllConnections();
      await upstreams.close();
      await transport.close();
    },
    async close() {
      server.close();
      server.closeAllConnections();
      await cache.drain(AbortSignal.timeout(2_000));
      await nodePlatform.settled();
      await upstreams.close();
      await transport.close();
      await spool.close();
      if (options.sharing === undefined) {
        await drivers.storage.close();
        await drivers.locks.close();
        await drivers.metadata.close();
      }
      if (options.directory === undefined) await rm(directory, { recursive: true, force: true });
    },
  };
}

/** Polls the real machine until the condition holds. @throws Error after `limitMs` milliseconds */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: () => string = () => 'the condition never held',
  limitMs = 10_000,
): Promise<void> {
  const end = performance.now() + limitMs;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`Waited ${limitMs} ms: ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function recordingLogger(lines: LoggedLine[], base: LogFields = {}): Logger {
  const at =
    (level: LoggedLine['level']) =>
    (message: string, fields: LogFields = {}): void => {
      lines.push({ level, message, fields: { ...base, ...fields } });
    };
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    with: (fields) => recordingLogger(lines, { ...base, ...fields }),
  };
}

type RecordingMetrics = Metrics & Pick<TestCache, 'metric' | 'peak'>;

function recordingMetrics(): RecordingMetrics {
  const cells: { readonly name: string; readonly labels: Labels; value: number }[] = [];
  const peaks = new Map<string, number>();
  const cell = (name: string, labels: Labels): (typeof cells)[number] => {
    const found = cells.find(
      (one) =>
        one.name === name &&
        Object.keys({ ...one.labels, ...labels }).every((label) => one.labels[label] === labels[label]),
    );
    if (found !== undefined) return found;
    const fresh = { name, labels, value: 0 };
    cells.push(fresh);
    return fresh;
  };
  return {
    count(name, labels = {}, by = 1) {
      cell(name, labels).value += by;
    },
    observe: () => undefined,
    gauge(name, value, labels = {}) {
      cell(name, labels).value = value;
      peaks.set(name, Math.max(value, peaks.get(name) ?? 0));
    },
    metric: (name, labels = {}) =>
      cells
        .filter((one) => one.name === name)
        .filter((one) => Object.entries(labels).every(([label, value]) => one.labels[label] === value))
        .reduce((sum, one) => sum + one.value, 0),
    peak: (gauge) => peaks.get(gauge) ?? 0,
  };
}

/** Files and sockets that this process has open. */
export async function openDescriptors(): Promise<number> {
  return (await readdir('/proc/self/fd')).length;
}

async function openIndex(
  path: string,
  checkpoint: Pick<TestCacheOptions, 'checkpoint'>,
): Promise<Pick<CacheServices, 'metadata' | 'upkeep'>> {
  const index = await createSqliteStore({ path, ...checkpoint });
  return { metadata: index, upkeep: index.upkeep };
}
