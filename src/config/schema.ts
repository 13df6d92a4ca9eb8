import { z } from 'zod';
import { formatPublicKey, parsePublicKey, parseSecretKey } from '../nix/signing-key.ts';
import type { PublicKey, SecretKey } from '../nix/signing-key.ts';
import { maskSecret } from '../telemetry/redact.ts';
import { baseUrl, parseUpstreamUrl } from '../upstream/upstream-url.ts';
import type { UpstreamConfig } from '../upstream/upstream-url.ts';
import type {
  AwsCredentials,
  Config,
  DatabaseConfig,
  LockConfig,
  SecretKeysConfig,
  StorageConfig,
} from './config.ts';
import { type LockChoice, parseLock, parseRestUrl, upstashLock } from './locks.ts';
import { parseDatabase, parseStorage } from './places.ts';
import type { SettingName } from './setting.ts';
import { parseCollector, parsePairs, parseRatio, parseSampler, tracingOf } from './tracing.ts';
import { parseDaysOrNever, parsePart, parseRetention, parseSchedule, parseTokenHash } from './upkeep.ts';
import {
  ListError,
  ValueError,
  parseChoice,
  parseCount,
  parseHostname,
  parseList,
  parseListen,
  parsePath,
  parseProxy,
  parseSeconds,
  parseSize,
  parseStoreDir,
} from './values.ts';

/** What a setting is read from: its text, or null where it is not set and has no default. */
export type SettingTexts = Readonly<Record<SettingName, string | null>>;

/** The least buffers that hold the window of a decoder and let a few transfers run at once. */
const LEAST_BUFFERS = 16 * 2 ** 20;

/**
 * The texts of all settings in, a `Config` out, or an issue for each value that is refused. An issue
 * of an element of a list carries it as `params.given`.
 */
export const configSchema: z.ZodType<Config, SettingTexts> = z
  .object({
    SNOWCAP_LISTEN: setting(parseListen),
    SNOWCAP_STORAGE: setting(parseStorage),
    SNOWCAP_DATABASE: setting(parseDatabase),
    SNOWCAP_DATABASE_POOL_SIZE: setting((text) => parseCount(text, 1000, 1)),
    SNOWCAP_DATABASE_TIMEOUT: setting((text) => parseSeconds(text, false)),
    SNOWCAP_LOCK: setting(parseLock),
    SNOWCAP_LOCK_PREFIX: setting(parseLockPrefix),
    SNOWCAP_UPSTREAMS: setting(parseUpstreams),
    SNOWCAP_TRUSTED_PUBLIC_KEYS: setting(parsePublicKeys),
    SNOWCAP_HOSTNAME: setting(parseHostname),
    SNOWCAP_SECRET_KEY: setting((text) => parseList(text, parseSecretKey)).nullable(),
    SNOWCAP_SECRET_KEY_FILE: setting(parsePath).nullable(),
    SNOWCAP_PRIORITY: setting((text) => parseCount(text, 1_000_000)),
    SNOWCAP_VERIFY: setting((text) => parseChoice(text, ['nar', 'file'])),
    SNOWCAP_NETRC_FILE: setting(parsePath).nullable(),
    SNOWCAP_CA_FILE: setting(parsePath).nullable(),
    SNOWCAP_STORE_DIR: setting(parseStoreDir),
    SNOWCAP_MAX_SIZE: setting((text) => parseSize(text)),
    SNOWCAP_EVICTION_SCHEDULE: setting(parseSchedule),
    SNOWCAP_EVICTION_LOW_WATER: setting(parsePart),
    SNOWCAP_EVICT_PUSHED: setting(parseRetention),
    SNOWCAP_METADATA_RETENTION: setting(parseDaysOrNever),
    SNOWCAP_METADATA_LIMIT: setting((text) => parseCount(text, 1_000_000_000, 1000)),
    SNOWCAP_ADMIN_TOKENS: setting((text) => parseList(text, parseTokenHash)),
    SNOWCAP_BUFFER_LIMIT: setting((text) => parseSize(text, LEAST_BUFFERS)),
    SNOWCAP_SPOOL_LIMIT: setting((text) => parseSize(text)),
    SNOWCAP_SPOOL_DIR: setting(parsePath).nullable(),
    SNOWCAP_NAR_DELIVERY: setting((text) => parseChoice(text, ['proxy', 'redirect', 'auto'])),
    SNOWCAP_REDIRECT_TTL: setting((text) => parseSeconds(text, false)),
    SNOWCAP_INLINE_FILL_LIMIT: setting((text) => parseSize(text)),
    SNOWCAP_FILL_WAIT: setting((text) => parseSeconds(text, true)),
    SNOWCAP_NAR_INFO_TTL: setting((text) => parseSeconds(text, true)),
    SNOWCAP_NEGATIVE_TTL: setting((text) => parseSeconds(text, true)),
    SNOWCAP_UPSTREAM_CONNECT_TIMEOUT: setting((text) => parseSeconds(text, false)),
    SNOWCAP_UPSTREAM_HEADERS_TIMEOUT: setting((text) => parseSeconds(text, false)),
    SNOWCAP_UPSTREAM_IDLE_TIMEOUT: setting((text) => parseSeconds(text, false)),
    SNOWCAP_SHUTDOWN_TIMEOUT: setting((text) => parseSeconds(text, true)),
    SNOWCAP_LOG_LEVEL: setting((text) => parseChoice(text, ['debug', 'info', 'warn', 'error'])),
    SNOWCAP_LOG_FORMAT: setting((text) => parseChoice(text, ['pretty', 'json'])),
    HTTPS_PROXY: setting(parseProxy).nullable(),
    HTTP_PROXY: setting(parseProxy).nullable(),
    NO_PROXY: setting((text) => text).nullable(),
    UPSTASH_REDIS_REST_URL: setting((text) => parseList(text, parseRestUrl)).nullable(),
    UPSTASH_REDIS_REST_TOKEN: setting((text) => parseList(text, (token) => token)).nullable(),
    AWS_REGION: setting((text) => text).nullable(),
    AWS_ACCESS_KEY_ID: setting((text) => text).nullable(),
    AWS_SECRET_ACCESS_KEY: setting((text) => text).nullable(),
    AWS_SESSION_TOKEN: setting((text) => text).nullable(),
    OTEL_EXPORTER_OTLP_ENDPOINT: setting(parseCollector).nullable(),
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: setting(parseCollector).nullable(),
    OTEL_EXPORTER_OTLP_HEADERS: setting(parsePairs).nullable(),
    OTEL_SERVICE_NAME: setting((text) => text).nullable(),
    OTEL_RESOURCE_ATTRIBUTES: setting(parsePairs).nullable(),
    OTEL_TRACES_SAMPLER: setting(parseSampler),
    OTEL_TRACES_SAMPLER_ARG: setting(parseRatio),
    OTEL_SDK_DISABLED: setting((text) => parseChoice(text, ['true', 'false'])),
  } satisfies Record<SettingName, z.ZodType>)
  .transform((values): Config => ({
    listen: values.SNOWCAP_LISTEN,
    storage: withRegion(values.SNOWCAP_STORAGE, values.AWS_REGION),
    database: values.SNOWCAP_DATABASE,
    databasePoolSize: values.SNOWCAP_DATABASE_POOL_SIZE,
    databaseTimeoutMs: values.SNOWCAP_DATABASE_TIMEOUT,
    lock: lockOf(values.SNOWCAP_LOCK, values.UPSTASH_REDIS_REST_URL, values.UPSTASH_REDIS_REST_TOKEN),
    lockPrefix: values.SNOWCAP_LOCK_PREFIX,
    awsCredentials: awsCredentials(
      values.AWS_ACCESS_KEY_ID,
      values.AWS_SECRET_ACCESS_KEY,
      values.AWS_SESSION_TOKEN,
    ),
    upstreams: values.SNOWCAP_UPSTREAMS,
    trustedPublicKeys: values.SNOWCAP_TRUSTED_PUBLIC_KEYS,
    hostname: values.SNOWCAP_HOSTNAME,
    secretKeys: secretKeys(
      values.SNOWCAP_SECRET_KEY,
      values.SNOWCAP_SECRET_KEY_FILE,
      values.SNOWCAP_STORAGE,
      values.SNOWCAP_DATABASE,
    ),
    priority: values.SNOWCAP_PRIORITY,
    verify: values.SNOWCAP_VERIFY,
    netrcFile: values.SNOWCAP_NETRC_FILE,
    caFile: values.SNOWCAP_CA_FILE,
    storeDir: values.SNOWCAP_STORE_DIR,
    bufferLimit: values.SNOWCAP_BUFFER_LIMIT,
    spoolLimit: values.SNOWCAP_SPOOL_LIMIT,
    spoolDir: values.SNOWCAP_SPOOL_DIR ?? spoolIn(values.SNOWCAP_STORAGE),
    maxSize: values.SNOWCAP_MAX_SIZE,
    evictionSchedule: values.SNOWCAP_EVICTION_SCHEDULE,
    evictionLowWater: values.SNOWCAP_EVICTION_LOW_WATER,
    evictPushedAfterMs: values.SNOWCAP_EVICT_PUSHED,
    metadataRetentionMs: values.SNOWCAP_METADATA_RETENTION,
    metadataMaxPaths: values.SNOWCAP_METADATA_LIMIT,
    adminTokens: values.SNOWCAP_ADMIN_TOKENS,
    narDelivery: values.SNOWCAP_NAR_DELIVERY,
    redirectTtlMs: values.SNOWCAP_REDIRECT_TTL,
    inlineFillLimit: values.SNOWCAP_INLINE_FILL_LIMIT,
    fillWaitMs: values.SNOWCAP_FILL_WAIT,
    narInfoTtlMs: values.SNOWCAP_NAR_INFO_TTL,
    negativeTtlMs: values.SNOWCAP_NEGATIVE_TTL,
    upstreamTimeouts: {
      connectMs: values.SNOWCAP_UPSTREAM_CONNECT_TIMEOUT,
      headersMs: values.SNOWCAP_UPSTREAM_HEADERS_TIMEOUT,
      idleMs: values.SNOWCAP_UPSTREAM_IDLE_TIMEOUT,
    },
    shutdownTimeoutMs: values.SNOWCAP_SHUTDOWN_TIMEOUT,
    logLevel: values.SNOWCAP_LOG_LEVEL,
    logFormat: values.SNOWCAP_LOG_FORMAT,
    proxy: {
      ...(values.HTTP_PROXY !== null && { httpProxy: values.HTTP_PROXY }),
      ...(values.HTTPS_PROXY !== null && { httpsProxy: values.HTTPS_PROXY }),
      ...(values.NO_PROXY !== null && { noProxy: values.NO_PROXY }),
    },
    tracing: tracingOf({
      disabled: values.OTEL_SDK_DISABLED === 'true',
      endpoint: values.OTEL_EXPORTER_OTLP_ENDPOINT,
      tracesEndpoint: values.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
      headers: values.OTEL_EXPORTER_OTLP_HEADERS,
      serviceName: values.OTEL_SERVICE_NAME,
      resourceAttributes: values.OTEL_RESOURCE_ATTRIBUTES,
      sampler: values.OTEL_TRACES_SAMPLER,
      ratio: values.OTEL_TRACES_SAMPLER_ARG,
    }),
  }));

/** A text that `parse` turns into a value; what it throws becomes issues. */
function setting<Value>(parse: (text: string) => Value | Promise<Value>): z.ZodType<Value, string> {
  return z.string().transform(async (text, context): Promise<Value> => {
    try {
      return await parse(text);
    } catch (error) {
      for (const problem of error instanceof ListError ? error.problems : [error]) {
        const given = problem instanceof ValueError ? problem.given : null;
        const message = problem instanceof Error ? problem.message : String(problem);
        context.addIssue({ code: 'custom', message, params: { given } });
      }
      return z.NEVER;
    }
  });
}

async function parseUpstreams(text: string): Promise<readonly UpstreamConfig[]> {
  const seen = new Set<string>();
  return parseList(text, (element) => {
    if (/,https?:/i.test(element)) throw new ValueError('expected URLs separated by spaces, not by commas');
    const upstream = parseUpstreamUrl(element);
    const base = baseUrl(upstream.url);
    if (seen.has(base)) throw new ValueError(`the upstream ${base} is given twice`);
    seen.add(base);
    return upstream;
  });
}

async function parsePublicKeys(text: string): Promise<readonly PublicKey[]> {
  const keys = await parseList(text, (element) => {
    // A secret key in the wrong place must not end up in an error message.
    if (/:[0-9A-Za-z+/]{80,}={0,2}$/.test(element)) {
      throw new ValueError('expected a public key, this is as long as a secret key', maskSecret(element));
    }
    return parsePublicKey(element);
  });
  return [...new Map(keys.map((key) => [formatPublicKey(key), key])).values()];
}

function secretKeys(
  given: readonly SecretKey[] | null,
  file: string | null,
  storage: StorageConfig,
  database: DatabaseConfig,
): SecretKeysConfig {
  if (given !== null) return { kind: 'given', keys: given };
  if (file !== null) return { kind: 'file', path: file };
  if (storage.kind !== 'file' || database.kind !== 'sqlite') return { kind: 'missing' };
  return { kind: 'generated', path: `${database.path.replace(/[^/]*$/, '')}secret-key` };
}

/** Fills in flight are best moved within one file system. */
function spoolIn(storage: StorageConfig): string {
  return storage.kind === 'file' ? `${withoutFinalSlash(storage.path)}/.snowcap/spool` : './data/spool';
}

function withRegion(storage: StorageConfig, region: string | null): StorageConfig {
  return storage.kind === 's3' ? { ...storage, region: storage.region ?? region } : storage;
}

function lockOf(
  choice: LockChoice,
  urls: readonly string[] | null,
  tokens: readonly string[] | null,
): LockConfig {
  return choice.kind === 'upstash' ? upstashLock(urls ?? [], tokens ?? []) : choice;
}

function awsCredentials(
  accessKeyId: string | null,
  secretAccessKey: string | null,
  sessionToken: string | null,
): AwsCredentials | null {
  // One without the other is a conflict, which `load.ts` reports.
  if (accessKeyId === null || secretAccessKey === null) return null;
  return { accessKeyId, secretAccessKey, sessionToken };
}

/** @throws ValueError */
function parseLockPrefix(text: string): string {
  if (!/^[\x21-\x7e]{1,100}$/.test(text))
    throw new ValueError('expected up to 100 printable characters of ASCII');
  return text;
}

function withoutFinalSlash(path: string): string {
  return path.length > 1 ? path.replace(/\/+$/, '') : path;
}
