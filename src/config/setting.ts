/** The environment variables of all settings. */
export type SettingName = OwnSettingName | SharedSettingName;

/** Those of Snowcap alone. */
export type OwnSettingName =
  | 'SNOWCAP_LISTEN'
  | 'SNOWCAP_STORAGE'
  | 'SNOWCAP_DATABASE'
  | 'SNOWCAP_UPSTREAMS'
  | 'SNOWCAP_TRUSTED_PUBLIC_KEYS'
  | 'SNOWCAP_DATABASE_POOL_SIZE'
  | 'SNOWCAP_DATABASE_TIMEOUT'
  | 'SNOWCAP_LOCK'
  | 'SNOWCAP_LOCK_PREFIX'
  | 'SNOWCAP_HOSTNAME'
  | 'SNOWCAP_SECRET_KEY'
  | 'SNOWCAP_SECRET_KEY_FILE'
  | 'SNOWCAP_PRIORITY'
  | 'SNOWCAP_VERIFY'
  | 'SNOWCAP_NETRC_FILE'
  | 'SNOWCAP_CA_FILE'
  | 'SNOWCAP_STORE_DIR'
  | 'SNOWCAP_MAX_SIZE'
  | 'SNOWCAP_EVICTION_SCHEDULE'
  | 'SNOWCAP_EVICTION_LOW_WATER'
  | 'SNOWCAP_EVICT_PUSHED'
  | 'SNOWCAP_METADATA_RETENTION'
  | 'SNOWCAP_METADATA_LIMIT'
  | 'SNOWCAP_ADMIN_TOKENS'
  | 'SNOWCAP_BUFFER_LIMIT'
  | 'SNOWCAP_SPOOL_LIMIT'
  | 'SNOWCAP_SPOOL_DIR'
  | 'SNOWCAP_NAR_DELIVERY'
  | 'SNOWCAP_REDIRECT_TTL'
  | 'SNOWCAP_INLINE_FILL_LIMIT'
  | 'SNOWCAP_FILL_WAIT'
  | 'SNOWCAP_NAR_INFO_TTL'
  | 'SNOWCAP_NEGATIVE_TTL'
  | 'SNOWCAP_UPSTREAM_CONNECT_TIMEOUT'
  | 'SNOWCAP_UPSTREAM_HEADERS_TIMEOUT'
  | 'SNOWCAP_UPSTREAM_IDLE_TIMEOUT'
  | 'SNOWCAP_SHUTDOWN_TIMEOUT'
  | 'SNOWCAP_LOG_LEVEL'
  | 'SNOWCAP_LOG_FORMAT';

/** Those under names that other programs read too. */
export type SharedSettingName =
  | 'HTTPS_PROXY'
  | 'HTTP_PROXY'
  | 'NO_PROXY'
  | 'UPSTASH_REDIS_REST_URL'
  | 'UPSTASH_REDIS_REST_TOKEN'
  | 'AWS_REGION'
  | 'AWS_ACCESS_KEY_ID'
  | 'AWS_SECRET_ACCESS_KEY'
  | 'AWS_SESSION_TOKEN'
  | 'OTEL_EXPORTER_OTLP_ENDPOINT'
  | 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'
  | 'OTEL_EXPORTER_OTLP_HEADERS'
  | 'OTEL_SERVICE_NAME'
  | 'OTEL_RESOURCE_ATTRIBUTES'
  | 'OTEL_TRACES_SAMPLER'
  | 'OTEL_TRACES_SAMPLER_ARG'
  | 'OTEL_SDK_DISABLED';

/** One setting, as people meet it: in the environment, as a flag, in the documentation. */
export interface Setting {
  /** The environment variable. */
  readonly name: SettingName;
  /** Other variables that are read where `name` is not set, in this order. */
  readonly fallbacks?: readonly string[];
  /** The flag of `snowcap serve`; null where there is none. */
  readonly flag: string | null;
  /** What stands for the value in the help, as `<bytes>`. */
  readonly placeholder: string;
  /** The default as it would be written; null: not set. */
  readonly default: string | null;
  /** What the default is where it depends on the machine or on other settings. */
  readonly defaultText?: string;
  /** One sentence without a full stop. */
  readonly description: string;
  /** A list separated by white space: the flag may be repeated, and an empty value means an empty list. */
  readonly list?: true;
  /** How the value is shown: not at all (`key`), or without credentials (`url`). */
  readonly secret?: 'key' | 'url';
}

/** A table of settings: all that is said of each but its name, which is the key. */
export type SettingTable<Name extends SettingName> = Readonly<Record<Name, Omit<Setting, 'name'>>>;
