import type { OwnSettingName, SettingTable } from './setting.ts';

/** Settings of Snowcap alone, in the order of the documentation. */
export const OWN_SETTINGS: SettingTable<OwnSettingName> = {
  SNOWCAP_LISTEN: {
    flag: '--listen',
    placeholder: '<host:port>',
    default: '127.0.0.1:8501',
    description: 'Address to serve on: `host:port`, `[::1]:port`, or `:port` for every interface',
  },
  SNOWCAP_STORAGE: {
    flag: '--storage',
    placeholder: '<url>',
    default: 'file:./data/storage',
    description:
      'Where NARs and narinfos are kept: `file:PATH`, `s3://BUCKET/PREFIX?endpoint=…&region=…&pathStyle=true`, ' +
      'or on Workers `r2:BINDING`',
    secret: 'url',
  },
  SNOWCAP_DATABASE: {
    flag: '--database',
    placeholder: '<url>',
    default: 'sqlite:./data/index.db',
    description:
      'Where the index is kept: `sqlite:PATH`, `postgres://…`, `mysql://…`, or on Workers `d1:BINDING` and ' +
      '`hyperdrive:BINDING`',
    secret: 'url',
  },
  SNOWCAP_DATABASE_POOL_SIZE: {
    flag: '--database-pool-size',
    placeholder: '<number>',
    default: '10',
    description: 'Connections to Postgres or MySQL that are held at most',
  },
  SNOWCAP_DATABASE_TIMEOUT: {
    flag: '--database-timeout',
    placeholder: '<seconds>',
    default: '10',
    description: 'Seconds that a statement of Postgres or MySQL may take, and a connection to it',
  },
  SNOWCAP_LOCK: {
    flag: '--lock',
    placeholder: '<kind>',
    default: 'local',
    description:
      'What keeps instances that share a storage from downloading twice: `local` (one instance), `database`, ' +
      '`upstash`, or `redis://…` and `rediss://…` (three or more, separated by spaces, form a Redlock)',
    secret: 'url',
  },
  SNOWCAP_LOCK_PREFIX: {
    flag: '--lock-prefix',
    placeholder: '<text>',
    default: 'snowcap:',
    description: 'What the names of locks begin with; the same for all instances of one cache',
  },
  SNOWCAP_UPSTREAMS: {
    flag: '--upstreams',
    placeholder: '<urls>',
    default: 'https://cache.nixos.org',
    description:
      'Caches to pull from, separated by spaces; `?priority=N` overrides the priority that a cache gives itself, ' +
      '`?unsigned=allow` accepts its paths without a signature',
    list: true,
    secret: 'url',
  },
  SNOWCAP_TRUSTED_PUBLIC_KEYS: {
    flag: '--trusted-public-keys',
    placeholder: '<keys>',
    default: 'cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=',
    description: 'Keys whose signatures are accepted, in the format of Nix, separated by spaces',
    list: true,
  },
  SNOWCAP_HOSTNAME: {
    flag: '--hostname',
    placeholder: '<name>',
    default: null,
    defaultText: "the machine's host name",
    description: 'Names the signing key that is generated, `<name>-1`',
  },
  SNOWCAP_SECRET_KEY: {
    flag: null,
    placeholder: '<keys>',
    default: null,
    description:
      'Signing keys in the format of Nix, separated by spaces; the first one signs new paths. ' +
      'There is no flag, since other users of the machine can see flags',
    secret: 'key',
  },
  SNOWCAP_SECRET_KEY_FILE: {
    flag: '--secret-key-file',
    placeholder: '<file>',
    default: null,
    defaultText: 'with files and SQLite: `secret-key` beside the index, generated if missing',
    description: 'File with the signing keys, instead of `SNOWCAP_SECRET_KEY`',
  },
  SNOWCAP_PRIORITY: {
    flag: '--priority',
    placeholder: '<number>',
    default: '30',
    description: 'Priority in the nix-cache-info of this cache; lower is better, cache.nixos.org has 40',
  },
  SNOWCAP_VERIFY: {
    flag: '--verify',
    placeholder: '<nar|file>',
    default: 'nar',
    description:
      'What is checked of a body: `file` its FileHash and size, `nar` also the NarHash of what it unpacks to',
  },
  SNOWCAP_NETRC_FILE: {
    flag: '--netrc-file',
    placeholder: '<file>',
    default: null,
    description: 'Credentials for upstreams, in the format of netrc',
  },
  SNOWCAP_CA_FILE: {
    fallbacks: ['NIX_SSL_CERT_FILE'],
    flag: '--ca-file',
    placeholder: '<file>',
    default: null,
    description:
      'Certificates in PEM that are trusted besides the usual ones; `NIX_SSL_CERT_FILE` is read too',
  },
  SNOWCAP_STORE_DIR: {
    flag: '--store-dir',
    placeholder: '<path>',
    default: '/nix/store',
    description: 'Store directory of the paths that are served',
  },
  SNOWCAP_MAX_SIZE: {
    flag: '--max-size',
    placeholder: '<size>',
    default: '100G',
    description:
      'What the stored NARs may take together; above it, those that are missed least are evicted. A larger body is ' +
      'streamed, not stored',
  },
  SNOWCAP_EVICTION_SCHEDULE: {
    flag: '--eviction-schedule',
    placeholder: '<cron>',
    default: '0 * * * *',
    description:
      'When a process on Node looks whether something is to be evicted, as a pattern of cron, or `off`; it also looks ' +
      'whenever a fill passes the limit',
  },
  SNOWCAP_EVICTION_LOW_WATER: {
    flag: '--eviction-low-water',
    placeholder: '<percent>',
    default: '90%',
    description: 'Down to what part of the limit an eviction goes',
  },
  SNOWCAP_EVICT_PUSHED: {
    flag: '--evict-pushed',
    placeholder: '<days>',
    default: '90d',
    description:
      'Days without access after which a path that no upstream can give again may be evicted, as `90d`; `never`, or ' +
      '`always`',
  },
  SNOWCAP_METADATA_RETENTION: {
    flag: '--metadata-retention',
    placeholder: '<days>',
    default: '365d',
    description:
      'Days for which an unused path is remembered without its NAR, as `365d`; `never`: no limit of time',
  },
  SNOWCAP_METADATA_LIMIT: {
    flag: '--metadata-limit',
    placeholder: '<number>',
    default: '10000000',
    description: 'How many paths are remembered; above it those that were unused for longest are forgotten',
  },
  SNOWCAP_ADMIN_TOKENS: {
    flag: '--admin-tokens',
    placeholder: '<hashes>',
    default: '',
    description:
      'Hashes of the tokens that may pin over HTTP, separated by spaces; `snowcap token generate` makes one',
    list: true,
  },
  SNOWCAP_BUFFER_LIMIT: {
    flag: '--buffer-limit',
    placeholder: '<size>',
    default: '64M',
    description: 'Memory for the buffers of all transfers together',
  },
  SNOWCAP_SPOOL_LIMIT: {
    flag: '--spool-limit',
    placeholder: '<size>',
    default: '10G',
    description:
      'Disk space for all fills in flight together; a fill that finds no room is streamed, not stored',
  },
  SNOWCAP_SPOOL_DIR: {
    flag: '--spool-dir',
    placeholder: '<path>',
    default: null,
    defaultText: '`.snowcap/spool` in a storage of files, else `./data/spool`',
    description: 'Where fills in flight are kept; best on the file system of the storage',
  },
  SNOWCAP_NAR_DELIVERY: {
    flag: '--nar-delivery',
    placeholder: '<proxy|redirect|auto>',
    default: 'auto',
    description:
      'Whether a stored NAR goes through here or the client is redirected to a signed URL of the storage; `auto` ' +
      'redirects on Lambda and proxies elsewhere',
  },
  SNOWCAP_REDIRECT_TTL: {
    flag: '--redirect-ttl',
    placeholder: '<seconds>',
    default: '300',
    description: 'Seconds for which such a URL works at most',
  },
  SNOWCAP_INLINE_FILL_LIMIT: {
    flag: '--inline-fill-limit',
    placeholder: '<size>',
    default: '100M',
    description:
      'The largest NAR that Lambda stores before it redirects; for a larger one the client goes to the upstream',
  },
  SNOWCAP_FILL_WAIT: {
    flag: '--fill-wait',
    placeholder: '<seconds>',
    default: '10',
    description:
      'Seconds to wait for another instance that is storing the same NAR, before it is read unsaved',
  },
  SNOWCAP_NAR_INFO_TTL: {
    flag: '--nar-info-ttl',
    placeholder: '<seconds>',
    default: '60',
    description: 'Seconds for which a narinfo or a small NAR may be answered from memory',
  },
  SNOWCAP_NEGATIVE_TTL: {
    flag: '--negative-ttl',
    placeholder: '<seconds>',
    default: '30',
    description: 'Seconds for which it is remembered that no upstream has a path',
  },
  SNOWCAP_UPSTREAM_CONNECT_TIMEOUT: {
    flag: '--upstream-connect-timeout',
    placeholder: '<seconds>',
    default: '5',
    description: 'Seconds until a connection to an upstream must stand',
  },
  SNOWCAP_UPSTREAM_HEADERS_TIMEOUT: {
    flag: '--upstream-headers-timeout',
    placeholder: '<seconds>',
    default: '15',
    description: 'Seconds until an upstream must have begun to answer; at most 5 count for a narinfo',
  },
  SNOWCAP_UPSTREAM_IDLE_TIMEOUT: {
    flag: '--upstream-idle-timeout',
    placeholder: '<seconds>',
    default: '60',
    description: 'Seconds for which a body from an upstream may stand still',
  },
  SNOWCAP_SHUTDOWN_TIMEOUT: {
    flag: '--shutdown-timeout',
    placeholder: '<seconds>',
    default: '30',
    description: 'Seconds that a shutdown waits for transfers to end',
  },
  SNOWCAP_LOG_LEVEL: {
    flag: '--log-level',
    placeholder: '<level>',
    default: 'info',
    description: 'Least level that is logged: `debug`, `info`, `warn` or `error`',
  },
  SNOWCAP_LOG_FORMAT: {
    flag: '--log-format',
    placeholder: '<pretty|json>',
    default: null,
    defaultText: '`pretty` on a terminal, `json` else',
    description: 'Log lines for people or for programs',
  },
};
