/** The environment variables of all settings. */
export type SettingName =
  | 'SNOWCAP_LISTEN'
  | 'SNOWCAP_STORAGE'
  | 'SNOWCAP_DATABASE'
  | 'SNOWCAP_UPSTREAMS'
  | 'SNOWCAP_TRUSTED_PUBLIC_KEYS'
  | 'SNOWCAP_HOSTNAME'
  | 'SNOWCAP_SECRET_KEY'
  | 'SNOWCAP_SECRET_KEY_FILE'
  | 'SNOWCAP_PRIORITY'
  | 'SNOWCAP_VERIFY'
  | 'SNOWCAP_NETRC_FILE'
  | 'SNOWCAP_CA_FILE'
  | 'SNOWCAP_STORE_DIR'
  | 'SNOWCAP_MAX_SIZE'
  | 'SNOWCAP_BUFFER_LIMIT'
  | 'SNOWCAP_SPOOL_LIMIT'
  | 'SNOWCAP_SPOOL_DIR'
  | 'SNOWCAP_NAR_INFO_TTL'
  | 'SNOWCAP_NEGATIVE_TTL'
  | 'SNOWCAP_UPSTREAM_CONNECT_TIMEOUT'
  | 'SNOWCAP_UPSTREAM_HEADERS_TIMEOUT'
  | 'SNOWCAP_UPSTREAM_IDLE_TIMEOUT'
  | 'SNOWCAP_SHUTDOWN_TIMEOUT'
  | 'SNOWCAP_LOG_LEVEL'
  | 'SNOWCAP_LOG_FORMAT'
  | 'HTTPS_PROXY'
  | 'HTTP_PROXY'
  | 'NO_PROXY';

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

/**
 * Flags, `config check`, the documentation and what the schema reads are made from this table alone, so that
 * they cannot drift apart.
 */
const TABLE: Readonly<Record<SettingName, Omit<Setting, 'name'>>> = {
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
    description: 'Where NARs and narinfos are kept: `file:PATH`',
  },
  SNOWCAP_DATABASE: {
    flag: '--database',
    placeholder: '<url>',
    default: 'sqlite:./data/index.db',
    description: 'Where the index is kept: `sqlite:PATH`',
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
    defaultText: '`secret-key` beside the index, generated if missing',
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
    description: 'The largest body that is stored; a larger one is streamed',
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
    defaultText: '`.snowcap/spool` in the storage',
    description: 'Where fills in flight are kept; best on the file system of the storage',
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
  HTTPS_PROXY: {
    fallbacks: ['https_proxy'],
    flag: null,
    placeholder: '<url>',
    default: null,
    description: 'Proxy for https upstreams; lower case is read too',
    secret: 'url',
  },
  HTTP_PROXY: {
    fallbacks: ['http_proxy'],
    flag: null,
    placeholder: '<url>',
    default: null,
    description: 'Proxy for http upstreams; lower case is read too',
    secret: 'url',
  },
  NO_PROXY: {
    fallbacks: ['no_proxy'],
    flag: null,
    placeholder: '<hosts>',
    default: null,
    description: 'Hosts that are asked without a proxy, separated by commas; lower case is read too',
  },
};

/** Every setting there is, in the order of the documentation. */
export const SETTINGS: readonly Setting[] = Object.entries(TABLE).flatMap(([name, description]) =>
  isSettingName(name) ? [{ name, ...description }] : [],
);

function isSettingName(name: string): name is SettingName {
  return Object.hasOwn(TABLE, name);
}

/** The table as Markdown, for the README. */
export function settingsTable(): string {
  const rows = SETTINGS.map((setting) => {
    const usual = setting.defaultText ?? (setting.default === null ? '' : `\`${setting.default}\``);
    const flag = setting.flag === null ? '' : `\`${setting.flag}\``;
    return [`\`${setting.name}\``, flag, usual, setting.description];
  });
  return [['Variable', 'Flag', 'Default', 'Meaning'], ['---', '---', '---', '---'], ...rows]
    .map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |\n`)
    .join('');
}
