import type { PublicKey, SecretKey } from '../nix/signing-key.ts';
import type { UpstreamConfig } from '../upstream/upstream-url.ts';

/**
 * The whole configuration, checked, in base units: sizes in bytes, times in milliseconds. Paths of files
 * are as they were given (relative ones are relative to the working directory).
 *
 * It holds secrets (`secretKeys`, `awsCredentials`, credentials in URLs and headers): it is never to be
 * logged as a whole; `LoadedConfig.effective` is what may be shown.
 */
export interface Config {
  readonly listen: ListenAddress;
  readonly storage: StorageConfig;
  readonly database: DatabaseConfig;
  /** Connections to a database server that are held at most. */
  readonly databasePoolSize: number;
  /** Milliseconds that a statement may take there. */
  readonly databaseTimeoutMs: number;
  readonly lock: LockConfig;
  /** What the names of locks begin with. */
  readonly lockPrefix: string;
  /** Keys for S3 that were given; null: the SDK looks for them itself, where it can. */
  readonly awsCredentials: AwsCredentials | null;
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
  /** A pattern of cron; null: no schedule. */
  readonly evictionSchedule: string | null;
  /** From 0 to 1: the part of `maxSize` down to which an eviction goes. */
  readonly evictionLowWater: number;
  /** How long a pushed path is kept without access, in milliseconds; null: for ever. */
  readonly evictPushedAfterMs: number | null;
  /** How long an unused path is remembered without its NAR, in milliseconds; null: for ever. */
  readonly metadataRetentionMs: number | null;
  readonly metadataMaxPaths: number;
  /** Hashes of tokens, as `sha256:<64 hexadecimal digits>`. May be empty. */
  readonly adminTokens: readonly string[];
  /** Whether a stored NAR goes through here; `auto` is for the runtime to decide. */
  readonly narDelivery: 'proxy' | 'redirect' | 'auto';
  /** How long a URL that clients are redirected to works at most. */
  readonly redirectTtlMs: number;
  /** Bytes of the largest NAR that is stored before a client is redirected, where misses are not streamed. */
  readonly inlineFillLimit: number;
  /** How long to wait for another instance that stores the same NAR. */
  readonly fillWaitMs: number;
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
  /** Null: nothing is traced. */
  readonly tracing: TracingConfig | null;
}

export interface ListenAddress {
  /** A name or an address, IPv6 without brackets; null: every interface. */
  readonly host: string | null;
  /** 0: any free port. */
  readonly port: number;
}

/** Where bodies are. */
export type StorageConfig =
  | { readonly kind: 'file'; readonly path: string }
  | S3Config
  /** A binding of a Worker, by its name. */
  | { readonly kind: 'r2'; readonly binding: string };

export interface S3Config {
  readonly kind: 's3';
  readonly bucket: string;
  /** What every key begins with: empty, or it ends with a slash. */
  readonly prefix: string;
  /** Null: whatever the SDK finds, or `auto` where there is an endpoint. */
  readonly region: string | null;
  /** Of a server other than AWS, without a final slash. */
  readonly endpoint: string | null;
  /** Where clients reach the same server, for redirects; null: at the endpoint. */
  readonly publicEndpoint: string | null;
  /** The bucket in the path rather than in the host name. */
  readonly pathStyle: boolean;
  /** Bytes of a part of a multipart upload. */
  readonly partSize: number;
  /** Parts that are sent at once. */
  readonly concurrency: number;
}

/** Where the index is. */
export type DatabaseConfig =
  | { readonly kind: 'sqlite'; readonly path: string }
  /** URLs may carry credentials. */
  | { readonly kind: 'postgres' | 'mysql'; readonly url: string }
  /** Bindings of a Worker, by their names; Hyperdrive leads to Postgres. */
  | { readonly kind: 'd1' | 'hyperdrive'; readonly binding: string };

/** What coordinates the instances of one cache. URLs may carry credentials. */
export type LockConfig =
  | { readonly kind: 'local' | 'database' }
  | { readonly kind: 'redis'; readonly urls: readonly string[] }
  | {
      readonly kind: 'upstash';
      readonly endpoints: readonly { readonly url: string; readonly token: string }[];
    };

/** Keys for S3 that were given; holds secrets. */
export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string | null;
}

/** Where traces go, and which of them. `headers` may hold secrets. */
export interface TracingConfig {
  /** The whole URL of the collector for traces. */
  readonly endpoint: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly serviceName: string;
  readonly resourceAttributes: Readonly<Record<string, string>>;
  readonly sampler: SamplerConfig;
}

export interface SamplerConfig {
  readonly kind: 'always_on' | 'always_off' | 'traceidratio';
  /** From 0 to 1. */
  readonly ratio: number;
  /** Whether a caller that traces decides for us. */
  readonly parentBased: boolean;
}

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
  | { readonly kind: 'generated'; readonly path: string }
  /** None is given, and none is generated: several instances would generate several. */
  | { readonly kind: 'missing' };

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
