import { z } from 'zod';
import { formatPublicKey, parsePublicKey, parseSecretKey } from '../nix/signing-key.ts';
import type { PublicKey, SecretKey } from '../nix/signing-key.ts';
import { maskSecret } from '../telemetry/redact.ts';
import { baseUrl, parseUpstreamUrl } from '../upstream/upstream-url.ts';
import type { UpstreamConfig } from '../upstream/upstream-url.ts';
import type { SettingName } from './settings.ts';
import {
  ListError,
  ValueError,
  parseChoice,
  parseCount,
  parseHostname,
  parseList,
  parseListen,
  parsePath,
  parsePlace,
  parseProxy,
  parseSeconds,
  parseSize,
  parseStoreDir,
} from './values.ts';

/**
 * The whole configuration, checked, in base units: sizes in bytes, times in milliseconds. Paths of files
 * are as they were given (relative ones are relative to the working directory).
 *
 * It holds secrets (`secretKeys`, credentials in `upstreams` and `proxy`): it is never to be logged
 * as a whole; `LoadedConfig.effective` is what may be shown.
 */
export interface Config {
  readonly listen: ListenAddress;
  readonly storage: StorageConfig;
  readonly database: DatabaseConfig;
  /** In the order given; none of them twice. May be empty. */
  readonly upstreams: readonly UpstreamConfig[];
  /** None of them twice. May be empty: then only content-addressed paths and `?unsigned=allow` remain. */
  readonly trustedPublicKeys: readonly PublicKey[];
  /** Names the generated key, `<hostname>-1`. */
  readonly hostname: string;
  readonly secretKeys: SecretKeysConfig;
  /** The `Priority` of this cache's own nix-cache-info; lower is better. */
  readonly priority: number;
  /** What is checked of a body besides its FileHash and size: its NarHash too, or nothing more. */
  readonly verify: 'nar' | 'file';
  /** Path of a netrc file; null for none. */
  readonly netrcFile: string | null;
  /** Path of a PEM file whose certificates are trusted besides the default roots; null for none. */
  readonly caFile: string | null;
  /** Without a final slash, as `/nix/store`. */
  readonly storeDir: string;
  /** Bytes of memory that all transfers of the process may hold in buffers together. */
  readonly bufferLimit: number;
  /** Bytes of disk that all fills of the process may hold in the spool together; 0: none is spooled. */
  readonly spoolLimit: number;
  /** Path of the directory of fills in flight. */
  readonly spoolDir: string;
  /** Bytes that the cache may keep. A body larger than it is streamed, never stored. */
  readonly maxSize: number;
  /** How long a rendered narinfo may be answered from memory; 0: never. */
  readonly narInfoTtlMs: number;
  /** How long a 404 is remembered; 0: not at all. */
  readonly negativeTtlMs: number;
  readonly upstreamTimeouts: UpstreamTimeouts;
  /** How long a shutdown waits for transfers to end; 0: it does not wait. */
  readonly shutdownTimeoutMs: number;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
  readonly proxy: ProxyConfig;
}

export interface ListenAddress {
  /** A name or an address, IPv6 without brackets; null: every interface. */
  readonly host: string | null;
  /** 0: any free port. */
  readonly port: number;
}

/** Where bodies are. More kinds come with their drivers. */
export type StorageConfig = { readonly kind: 'file'; readonly path: string };

/** Where the index is. More kinds come with their drivers. */
export type DatabaseConfig = { readonly kind: 'sqlite'; readonly path: string };

/** The keys that sign. The first signs new paths; all of them add their signatures. */
export type SecretKeysConfig =
  /** The keys themselves, at least one. */
  | { readonly kind: 'given'; readonly keys: readonly SecretKey[] }
  /** A file that must be there, with one or several keys separated by white space. */
  | { readonly kind: 'file'; readonly path: string }
  /**
   * The embedded default: the same kind of file, written with a new key named `<hostname>-1` (mode 0600)
   * where it is missing. It lies beside the index, outside the storage.
   */
  | { readonly kind: 'generated'; readonly path: string };

export interface UpstreamTimeouts {
  /** Milliseconds until a connection must stand. */
  readonly connectMs: number;
  /** Milliseconds until the headers of an answer must be there. */
  readonly headersMs: number;
  /** Milliseconds that a body may stand still. */
  readonly idleMs: number;
}

/** Proxies for requests to upstreams, as the transport takes them. URLs may carry credentials. */
export interface ProxyConfig {
  readonly httpProxy?: string;
  readonly httpsProxy?: string;
  /** Hosts that are asked directly, separated by commas or spaces; `*` for all. */
  readonly noProxy?: string;
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
export type LogFormat = 'pretty' | 'json';

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
    SNOWCAP_STORAGE: setting((text) => ({ kind: 'file' as const, path: parsePlace(text, 'file') })),
    SNOWCAP_DATABASE: setting((text) => ({ kind: 'sqlite' as const, path: parsePlace(text, 'sqlite') })),
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
    SNOWCAP_BUFFER_LIMIT: setting((text) => parseSize(text, LEAST_BUFFERS)),
    SNOWCAP_SPOOL_LIMIT: setting((text) => parseSize(text)),
    SNOWCAP_SPOOL_DIR: setting(parsePath).nullable(),
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
  } satisfies Record<SettingName, z.ZodType>)
  .transform((values): Config => ({
    listen: values.SNOWCAP_LISTEN,
    storage: values.SNOWCAP_STORAGE,
    database: values.SNOWCAP_DATABASE,
    upstreams: values.SNOWCAP_UPSTREAMS,
    trustedPublicKeys: values.SNOWCAP_TRUSTED_PUBLIC_KEYS,
    hostname: values.SNOWCAP_HOSTNAME,
    secretKeys: secretKeys(
      values.SNOWCAP_SECRET_KEY,
      values.SNOWCAP_SECRET_KEY_FILE,
      values.SNOWCAP_DATABASE,
    ),
    priority: values.SNOWCAP_PRIORITY,
    verify: values.SNOWCAP_VERIFY,
    netrcFile: values.SNOWCAP_NETRC_FILE,
    caFile: values.SNOWCAP_CA_FILE,
    storeDir: values.SNOWCAP_STORE_DIR,
    bufferLimit: values.SNOWCAP_BUFFER_LIMIT,
    spoolLimit: values.SNOWCAP_SPOOL_LIMIT,
    spoolDir: values.SNOWCAP_SPOOL_DIR ?? `${withoutFinalSlash(values.SNOWCAP_STORAGE.path)}/.snowcap/spool`,
    maxSize: values.SNOWCAP_MAX_SIZE,
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
  database: DatabaseConfig,
): SecretKeysConfig {
  if (given !== null) return { kind: 'given', keys: given };
  if (file !== null) return { kind: 'file', path: file };
  return { kind: 'generated', path: `${database.path.replace(/[^/]*$/, '')}secret-key` };
}

function withoutFinalSlash(path: string): string {
  return path.length > 1 ? path.replace(/\/+$/, '') : path;
}
