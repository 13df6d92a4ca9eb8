import { describe, expect, it } from 'vitest';
import { formatProblem, loadConfig } from '../../../src/config/load.ts';
import type { ConfigSources, EffectiveSetting } from '../../../src/config/load.ts';
import type { Config } from '../../../src/config/config.ts';
import { formatSecretKey, generateSecretKey } from '../../../src/nix/signing-key.ts';

type Environment = ConfigSources['environment'];
type Flags = NonNullable<ConfigSources['flags']>;

function load(environment: Environment = {}, flags: Flags = {}): ReturnType<typeof loadConfig> {
  return loadConfig({ environment, flags, hostname: 'box', terminal: false });
}

async function configOf(environment: Environment = {}, flags: Flags = {}): Promise<Config> {
  const loaded = await load(environment, flags);
  if (!loaded.ok) throw new Error(loaded.problems.map(formatProblem).join('\n'));
  return loaded.config;
}

async function effectiveOf(
  environment: Environment = {},
  flags: Flags = {},
): Promise<Map<string, EffectiveSetting>> {
  const loaded = await load(environment, flags);
  if (!loaded.ok) throw new Error(loaded.problems.map(formatProblem).join('\n'));
  return new Map(loaded.effective.map((setting) => [setting.name, setting]));
}

async function problemsOf(environment: Environment, flags: Flags = {}): Promise<readonly string[]> {
  const loaded = await load(environment, flags);
  return loaded.ok ? [] : loaded.problems.map(formatProblem);
}

describe('the configuration without any setting', () => {
  it('is the embedded default over cache.nixos.org, in bytes and milliseconds', async () => {
    const { upstreams, trustedPublicKeys, ...rest } = await configOf();
    expect(upstreams.map(({ url, ...other }) => ({ url: url.href, ...other }))).toEqual([
      { url: 'https://cache.nixos.org/', priority: null, allowUnsigned: false },
    ]);
    expect(trustedPublicKeys.map((key) => key.name)).toEqual(['cache.nixos.org-1']);
    expect(rest).toEqual({
      listen: { host: '127.0.0.1', port: 8501 },
      storage: { kind: 'file', path: './data/storage' },
      database: { kind: 'sqlite', path: './data/index.db' },
      databasePoolSize: 10,
      databaseTimeoutMs: 10_000,
      lock: { kind: 'local' },
      lockPrefix: 'snowcap:',
      awsCredentials: null,
      hostname: 'box',
      secretKeys: { kind: 'generated', path: './data/secret-key' },
      priority: 30,
      verify: 'nar',
      netrcFile: null,
      caFile: null,
      storeDir: '/nix/store',
      bufferLimit: 64 * 1024 ** 2,
      spoolLimit: 10 * 1024 ** 3,
      spoolDir: './data/storage/.snowcap/spool',
      maxSize: 100 * 1024 ** 3,
      evictionSchedule: '0 * * * *',
      evictionLowWater: 0.9,
      evictPushedAfterMs: 90 * 86_400_000,
      metadataRetentionMs: 365 * 86_400_000,
      metadataMaxPaths: 10_000_000,
      adminTokens: [],
      narDelivery: 'auto',
      redirectTtlMs: 300_000,
      inlineFillLimit: 100 * 1024 ** 2,
      fillWaitMs: 10_000,
      narInfoTtlMs: 60_000,
      negativeTtlMs: 30_000,
      upstreamTimeouts: { connectMs: 5000, headersMs: 15_000, idleMs: 60_000 },
      shutdownTimeoutMs: 30_000,
      logLevel: 'info',
      logFormat: 'json',
      proxy: {},
      tracing: null,
    });
  });

  it('logs for people on a terminal', async () => {
    const loaded = await loadConfig({ environment: {}, hostname: 'box', terminal: true });
    expect(loaded.ok && loaded.config.logFormat).toBe('pretty');
  });
});

describe('where a value comes from', () => {
  it('is a flag before the environment, and the environment before the default', async () => {
    const effective = await effectiveOf(
      { SNOWCAP_PRIORITY: '20', SNOWCAP_VERIFY: 'file' },
      { SNOWCAP_PRIORITY: '10' },
    );
    expect(effective.get('SNOWCAP_PRIORITY')).toMatchObject({
      value: '10',
      origin: 'flag',
      source: '--priority',
    });
    expect(effective.get('SNOWCAP_VERIFY')).toMatchObject({ value: 'file', origin: 'environment' });
    expect(effective.get('SNOWCAP_LISTEN')).toMatchObject({ origin: 'default', source: null });
  });

  it('shows what a default that depends on others comes to', async () => {
    const effective = await effectiveOf({
      SNOWCAP_STORAGE: 'file:/srv/cache/',
      SNOWCAP_DATABASE: 'sqlite:/var/lib/snowcap/index.db',
    });
    expect(effective.get('SNOWCAP_SPOOL_DIR')?.value).toBe('/srv/cache/.snowcap/spool');
    expect(effective.get('SNOWCAP_SECRET_KEY_FILE')?.value).toBe('/var/lib/snowcap/secret-key');
  });

  it('reads an empty variable as not set', async () => {
    expect((await configOf({ SNOWCAP_PRIORITY: '', SNOWCAP_NETRC_FILE: ' ' })).netrcFile).toBeNull();
  });

  it('reads an empty list as an empty list', async () => {
    const config = await configOf({ SNOWCAP_UPSTREAMS: '', SNOWCAP_TRUSTED_PUBLIC_KEYS: ' ' });
    expect(config.upstreams).toEqual([]);
    expect(config.trustedPublicKeys).toEqual([]);
  });

  it('takes the CA file of Nix where none of its own is set, and says so', async () => {
    const effective = await effectiveOf({ NIX_SSL_CERT_FILE: '/etc/ssl/nix.crt' });
    expect(effective.get('SNOWCAP_CA_FILE')).toMatchObject({
      value: '/etc/ssl/nix.crt',
      source: 'NIX_SSL_CERT_FILE',
    });
    const both = await configOf({ NIX_SSL_CERT_FILE: '/etc/ssl/nix.crt', SNOWCAP_CA_FILE: '/own.crt' });
    expect(both.caFile).toBe('/own.crt');
  });

  it('reads proxies in upper and lower case, http meant where no scheme is given', async () => {
    const config = await configOf({
      https_proxy: 'proxy.example.org:3128',
      HTTP_PROXY: 'http://user:pw@proxy:1',
      NO_PROXY: 'localhost,.example.org',
    });
    expect(config.proxy).toEqual({
      httpsProxy: 'http://proxy.example.org:3128',
      httpProxy: 'http://user:pw@proxy:1',
      noProxy: 'localhost,.example.org',
    });
  });
});

describe('values', () => {
  it.each([
    ['0.0.0.0:80', '0.0.0.0', 80],
    ['[::1]:8501', '::1', 8501],
    ['[fe80::1%eth0]:1', 'fe80::1%eth0', 1],
    [':8080', null, 8080],
    ['localhost:0', 'localhost', 0],
  ])('listens on %s', async (text, host, port) => {
    expect((await configOf({ SNOWCAP_LISTEN: text })).listen).toEqual({ host, port });
  });

  it.each([
    '8501',
    'localhost',
    '::1:8501',
    '[::1]',
    'a b:1',
    'host:65536',
    'http://x:1',
    'host:-1',
    'u@h:1',
  ])('does not listen on %j', async (text) => {
    expect(await problemsOf({ SNOWCAP_LISTEN: text })).toEqual([
      `SNOWCAP_LISTEN: expected host:port, [IPv6 address]:port or :port, with a port from 0 to 65535, given ${JSON.stringify(text)}`,
    ]);
  });

  it.each([
    ['1048576', 1024 ** 2],
    ['64M', 64 * 1024 ** 2],
    ['64MiB', 64 * 1024 ** 2],
    ['3g', 3 * 1024 ** 3],
    ['2T', 2 * 1024 ** 4],
    ['2048K', 2048 * 1024],
  ])('reads a size of %s as %d bytes', async (text, bytes) => {
    expect((await configOf({ SNOWCAP_MAX_SIZE: text })).maxSize).toBe(bytes);
  });

  it.each(['64MB', '1.5G', '-1', 'x', '1e9', '64 M M', '9999999999T', '1P'])(
    'refuses a size of %s',
    async (text) => {
      const problems = await problemsOf({ SNOWCAP_MAX_SIZE: text });
      expect(problems).toHaveLength(1);
      expect(problems[0]).toMatch(/^SNOWCAP_MAX_SIZE: expected a number of bytes .*, given "/);
    },
  );

  it('refuses buffers that are too small for a transfer', async () => {
    expect(await problemsOf({ SNOWCAP_BUFFER_LIMIT: '1K' })).toEqual([
      'SNOWCAP_BUFFER_LIMIT: expected at least 16777216 bytes, given "1K"',
    ]);
  });

  it('reads seconds into milliseconds, with decimals', async () => {
    const config = await configOf({ SNOWCAP_NEGATIVE_TTL: '0', SNOWCAP_UPSTREAM_CONNECT_TIMEOUT: '0.25' });
    expect(config.negativeTtlMs).toBe(0);
    expect(config.upstreamTimeouts.connectMs).toBe(250);
  });

  it.each(['0', '0.0001', '5s', '-1', '9999999', 'Infinity', ''.padEnd(400, '9')])(
    'refuses a time-out of %j seconds',
    async (text) => {
      expect(await problemsOf({ SNOWCAP_UPSTREAM_IDLE_TIMEOUT: text })).toHaveLength(1);
    },
  );

  it('takes a place as scheme:PATH or scheme:///PATH', async () => {
    const storageOf = async (text: string): Promise<Config['storage']> =>
      (await configOf({ SNOWCAP_STORAGE: text })).storage;
    expect(await storageOf('file:cache')).toEqual({ kind: 'file', path: 'cache' });
    expect(await storageOf('file:/srv/cache')).toEqual({ kind: 'file', path: '/srv/cache' });
    expect(await storageOf('file:///srv/cache')).toEqual({ kind: 'file', path: '/srv/cache' });
  });

  it.each(['cache', '/srv/cache', 'file:', 'file://host/cache', 'file:~/cache', 'file:/a?b=c', 'sqlite:x'])(
    'refuses the storage %s',
    async (text) => {
      const problems = await problemsOf({ SNOWCAP_STORAGE: text });
      expect(problems).toHaveLength(1);
      expect(problems[0]).toContain(`given ${JSON.stringify(text)}`);
    },
  );

  it('keeps options, order and path prefixes of upstreams', async () => {
    const { upstreams } = await configOf({
      SNOWCAP_UPSTREAMS: ' https://a.example.org/team/?priority=10 \n http://b:8080?unsigned=allow ',
    });
    expect(upstreams.map(({ url, ...rest }) => [url.href, rest])).toEqual([
      ['https://a.example.org/team', { priority: 10, allowUnsigned: false }],
      ['http://b:8080/', { priority: null, allowUnsigned: true }],
    ]);
  });

  it('refuses an upstream that is given twice, and commas between upstreams', async () => {
    const problems = await problemsOf({
      SNOWCAP_UPSTREAMS: 'https://a https://a/?priority=1 https://b,https://c',
    });
    expect(problems).toEqual([
      'SNOWCAP_UPSTREAMS: the upstream https://a is given twice, given "https://a/?priority=1"',
      'SNOWCAP_UPSTREAMS: expected URLs separated by spaces, not by commas, given "https://b,https://c"',
    ]);
  });

  it('takes several secret keys in their order', async () => {
    const keys = await Promise.all(['one-1', 'two-1'].map((name) => generateSecretKey(name)));
    const config = await configOf({ SNOWCAP_SECRET_KEY: keys.map(formatSecretKey).join(' ') });
    expect(config.secretKeys.kind === 'given' && config.secretKeys.keys.map((key) => key.name)).toEqual([
      'one-1',
      'two-1',
    ]);
  });

  it.each(['nix/store', '/nix//store', '/nix/../store', '/nix/store x', '/'])(
    'refuses the store directory %j',
    async (text) => {
      expect(await problemsOf({ SNOWCAP_STORE_DIR: text })).toHaveLength(1);
    },
  );

  it.each(['socks5://proxy:1080', 'http://', 'a b'])('refuses the proxy %j', async (text) => {
    expect(await problemsOf({ HTTPS_PROXY: text })).toHaveLength(1);
  });
});

describe('problems', () => {
  it('are reported all at once, each with its name, what was given and what was expected', async () => {
    const problems = await problemsOf(
      {
        SNOWCAP_LISTEN: '8501',
        SNOWCAP_STORAGE: 'gs://bucket',
        SNOWCAP_UPSTREAMS: 'ftp://a https://ok https://b?priority=x',
        SNOWCAP_TRUSTED_PUBLIC_KEYS: 'nonsense',
        SNOWCAP_LOG_LEVEL: 'loud',
        SNOWCAP_LISTN: 'x',
      },
      { SNOWCAP_PRIORITY: 'high' },
    );
    expect(problems.map((problem) => problem.replace(/:.*/s, '')).sort((a, b) => (a < b ? -1 : 1))).toEqual([
      '--priority',
      'SNOWCAP_LISTEN',
      'SNOWCAP_LISTN',
      'SNOWCAP_LOG_LEVEL',
      'SNOWCAP_STORAGE',
      'SNOWCAP_TRUSTED_PUBLIC_KEYS',
      'SNOWCAP_UPSTREAMS',
      'SNOWCAP_UPSTREAMS',
    ]);
    expect(problems).toContain('--priority: expected a whole number from 0 to 1000000, given "high"');
    expect(problems).toContain(
      'SNOWCAP_LOG_LEVEL: expected "debug" or "info" or "warn" or "error", given "loud"',
    );
  });

  it.each([
    ['SNOWCAP_LISTN', 'SNOWCAP_LISTEN'],
    ['SNOWCAP_UPSTREAM', 'SNOWCAP_UPSTREAMS'],
    ['snowcap_listen', 'SNOWCAP_LISTEN'],
    ['SNOWCAP_NARINFO_TTL', 'SNOWCAP_NAR_INFO_TTL'],
    ['SNOWCAP_TRUSTED_KEYS', 'SNOWCAP_TRUSTED_PUBLIC_KEYS'],
  ])('are names that are not known: %s is meant to be %s', async (name, meant) => {
    expect(await problemsOf({ [name]: 'x' })).toEqual([
      `${name}: there is no such setting: did you mean ${meant}?`,
    ]);
  });

  it('do not guess where nothing is near', async () => {
    expect(await problemsOf({ SNOWCAP_FROBNICATION_ENGINE: 'x' })).toEqual([
      'SNOWCAP_FROBNICATION_ENGINE: there is no such setting: see "snowcap serve --help" for those there are',
    ]);
  });

  it('are not what container platforms add for a service called snowcap', async () => {
    const links = {
      SNOWCAP_SERVICE_HOST: '10.0.0.1',
      SNOWCAP_SERVICE_PORT: '8501',
      SNOWCAP_SERVICE_PORT_HTTP: '8501',
      SNOWCAP_PORT: 'tcp://10.0.0.1:8501',
      SNOWCAP_PORT_8501_TCP: 'tcp://10.0.0.1:8501',
      SNOWCAP_PORT_8501_TCP_ADDR: '10.0.0.1',
      SNOWCAP_WEB_SERVICE_HOST: '10.0.0.2',
      PATH: '/bin',
    };
    expect(await problemsOf(links)).toEqual([]);
    expect(await problemsOf({ SNOWCAP_PORT: '8501' })).toHaveLength(1);
  });

  it('are a secret key both given and in a file', async () => {
    const key = formatSecretKey(await generateSecretKey('k-1'));
    expect(await problemsOf({ SNOWCAP_SECRET_KEY: key, SNOWCAP_SECRET_KEY_FILE: '/k' })).toEqual([
      'SNOWCAP_SECRET_KEY_FILE: expected either SNOWCAP_SECRET_KEY or SNOWCAP_SECRET_KEY_FILE, not both, given "/k"',
    ]);
  });

  it.each([
    ['SNOWCAP_DATABASE', 'sqlite:/srv/cache/index.db'],
    ['SNOWCAP_DATABASE', 'sqlite:/srv/x/../cache/.hidden/index.db'],
    ['SNOWCAP_SECRET_KEY_FILE', '/srv/cache/key'],
    ['SNOWCAP_SPOOL_DIR', '/srv/cache/spool'],
    ['SNOWCAP_SPOOL_DIR', '/srv/cache'],
  ])('are private files within the storage: %s=%s', async (name, value) => {
    const problems = await problemsOf({ SNOWCAP_STORAGE: 'file:/srv/cache', [name]: value });
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(new RegExp(`^${name}: expected a place outside of SNOWCAP_STORAGE`));
  });

  it.each([
    ['SNOWCAP_DATABASE', 'sqlite:/srv/cache-index.db'],
    ['SNOWCAP_DATABASE', 'sqlite:/srv/cache/../index.db'],
    ['SNOWCAP_DATABASE', 'sqlite:srv/cache/index.db'],
    ['SNOWCAP_SPOOL_DIR', '/srv/cache/.own/spool'],
  ])('are not files beside the storage: %s=%s', async (name, value) => {
    expect(await problemsOf({ SNOWCAP_STORAGE: 'file:/srv/cache', [name]: value })).toEqual([]);
  });
});

describe('secrets', () => {
  it('are in no problem', async () => {
    const key = formatSecretKey(await generateSecretKey('k-1'));
    const broken = `${key.slice(0, -4)}AAA=`;
    const shown = (
      await problemsOf({
        SNOWCAP_SECRET_KEY: `${broken} hunter2`,
        SNOWCAP_TRUSTED_PUBLIC_KEYS: key,
        SNOWCAP_UPSTREAMS: 'ftp://user:hunter2@a https://user:hunter2@b?token=hunter2',
        HTTPS_PROXY: 'socks://user:hunter2@proxy',
      })
    ).join('\n');
    expect(shown.split('\n')).toHaveLength(6);
    expect(shown).not.toContain('hunter2');
    expect(shown).not.toContain(key.slice(4, 40));
  });

  it.each([
    ['SNOWCAP_STORAGE', 's3://id:hunter2@cache'],
    ['SNOWCAP_STORAGE', 's3://cache?endpoint=https://id:hunter2@s3.example'],
    ['SNOWCAP_STORAGE', 's3://cache?endpoint=https%3A%2F%2Fid%3Ahunter2%40s3.example'],
    ['SNOWCAP_STORAGE', 's3://cache?secretAccessKey=hunter2'],
    ['SNOWCAP_DATABASE', 'postgres:user:hunter2@host/index'],
    ['SNOWCAP_LOCK', 'redis:user:hunter2@host'],
  ])('are in no problem where they stand in the wrong place: %s=%s', async (name, value) => {
    const problems = await problemsOf({ [name]: value, SNOWCAP_SECRET_KEY_FILE: '/run/key' });
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(new RegExp(`^${name}: .*, given `));
    expect(problems[0]).not.toContain('hunter2');
  });

  it('are masked in what takes effect', async () => {
    const key = formatSecretKey(await generateSecretKey('k-1'));
    const effective = await effectiveOf({
      SNOWCAP_SECRET_KEY: key,
      SNOWCAP_UPSTREAMS: 'https://user:hunter2@a.example.org/x?priority=1',
      HTTP_PROXY: 'http://user:hunter2@proxy:1',
    });
    expect(effective.get('SNOWCAP_SECRET_KEY')?.value).toBe('k-1:…');
    expect(effective.get('SNOWCAP_UPSTREAMS')?.value).toBe('https://a.example.org/x?priority=1');
    expect(effective.get('HTTP_PROXY')?.value).toBe('http://proxy:1');
  });
});
