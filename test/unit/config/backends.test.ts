import { describe, expect, it } from 'vitest';
import type { Config } from '../../../src/config/config.ts';
import { type ConfigSources, formatProblem, loadConfig } from '../../../src/config/load.ts';

type Environment = ConfigSources['environment'];

const KEY = { SNOWCAP_SECRET_KEY_FILE: '/run/keys/snowcap' };

function load(environment: Environment, more: Partial<ConfigSources> = {}): ReturnType<typeof loadConfig> {
  return loadConfig({ environment: { ...KEY, ...environment }, hostname: 'box', terminal: false, ...more });
}

async function configOf(environment: Environment): Promise<Config> {
  const loaded = await load(environment);
  if (!loaded.ok) throw new Error(loaded.problems.map(formatProblem).join('\n'));
  return loaded.config;
}

async function problemsOf(
  environment: Environment,
  more: Partial<ConfigSources> = {},
): Promise<readonly string[]> {
  const loaded = await load(environment, more);
  return loaded.ok ? [] : loaded.problems.map(formatProblem);
}

describe('a bucket of S3', () => {
  const plain = {
    kind: 's3',
    bucket: 'cache',
    prefix: '',
    region: null,
    endpoint: null,
    publicEndpoint: null,
    pathStyle: false,
    partSize: 8 * 1024 ** 2,
    concurrency: 3,
  };

  it.each([
    ['s3://cache', plain],
    ['s3://cache/', plain],
    ['s3://cache/team/nix/', { ...plain, prefix: 'team/nix/' }],
    [
      's3://cache?endpoint=http://127.0.0.1:9000/&region=auto&pathStyle=true&partSize=5M&concurrency=1',
      {
        ...plain,
        endpoint: 'http://127.0.0.1:9000',
        region: 'auto',
        pathStyle: true,
        partSize: 5 * 1024 ** 2,
        concurrency: 1,
      },
    ],
    ['s3://cache?publicEndpoint=https://s3.example', { ...plain, publicEndpoint: 'https://s3.example' }],
  ])('is read from %s', async (text, storage) => {
    const config = await configOf({ SNOWCAP_STORAGE: text });
    expect(config.storage).toEqual(storage);
    expect(config.spoolDir).toBe('./data/spool');
  });

  it.each([
    ['s3:cache', 'expected s3://BUCKET/PREFIX'],
    ['s3://', 'expected the name of a bucket'],
    ['s3://id:secret@cache', 'without credentials'],
    ['s3://cache?pathstyle=true', 'unknown option "pathstyle" (known are endpoint, region, pathStyle'],
    ['s3://cache?region=a&region=b', 'option "region" is given twice'],
    ['s3://cache?pathStyle=yes', 'expected pathStyle to be "true" or "false"'],
    ['s3://cache?endpoint=ftp://x', 'expected endpoint to be an http or https URL'],
    ['s3://cache?endpoint=http://a:b@x', 'expected endpoint to be an http or https URL without credentials'],
    ['s3://cache?partSize=1M', 'expected partSize from 5M'],
    ['s3://cache?concurrency=0', 'expected concurrency to be a whole number from 1 to 16'],
    ['s3://cache/.hidden', 'expected a prefix of'],
    ['s3://cache/a//b', 'expected a prefix of'],
  ])('is refused as %s', async (text, why) => {
    const problems = await problemsOf({ SNOWCAP_STORAGE: text });
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(why);
  });

  it('takes its region from the environment where its URL has none', async () => {
    const env = { AWS_DEFAULT_REGION: 'eu-west-1' };
    expect((await configOf({ ...env, SNOWCAP_STORAGE: 's3://cache' })).storage).toMatchObject({
      region: 'eu-west-1',
    });
    expect((await configOf({ ...env, SNOWCAP_STORAGE: 's3://cache?region=auto' })).storage).toMatchObject({
      region: 'auto',
    });
  });

  it('takes keys only as a pair', async () => {
    const pair = { AWS_ACCESS_KEY_ID: 'id', AWS_SECRET_ACCESS_KEY: 'hunter2' };
    expect((await configOf(pair)).awsCredentials).toEqual({
      accessKeyId: 'id',
      secretAccessKey: 'hunter2',
      sessionToken: null,
    });
    expect(await problemsOf({ AWS_ACCESS_KEY_ID: 'id' })).toEqual([
      'AWS_SECRET_ACCESS_KEY: expected a value, since AWS_ACCESS_KEY_ID is set',
    ]);
  });
});

describe('a database server', () => {
  it.each([
    ['postgres://u:p@db.example/snowcap', 'postgres'],
    ['postgresql://db.example:5433/snowcap?sslmode=require', 'postgres'],
    ['mysql://u:p@db.example/snowcap', 'mysql'],
    ['mariadb://db.example/snowcap', 'mysql'],
  ])('is read from %s', async (url, kind) => {
    expect((await configOf({ SNOWCAP_DATABASE: url })).database).toEqual({ kind, url });
  });

  it.each(['postgres://db.example', 'postgres:snowcap', 'mysql://u:hunter2@db.example/', 'oracle://x/y'])(
    'is refused as %s, and no password is shown',
    async (text) => {
      const problems = await problemsOf({ SNOWCAP_DATABASE: text });
      expect(problems).toHaveLength(1);
      expect(problems[0]).toMatch(/^SNOWCAP_DATABASE: expected/);
      expect(problems[0]).not.toContain('hunter2');
    },
  );

  it('needs a signing key that is given: only files with SQLite generate one', async () => {
    const nothing = { SNOWCAP_SECRET_KEY_FILE: '', SNOWCAP_DATABASE: 'postgres://db.example/snowcap' };
    const [problem, ...others] = await problemsOf(nothing);
    expect(problem).toMatch(/^SNOWCAP_SECRET_KEY: expected a signing key/);
    expect(others).toEqual([]);
    expect(await problemsOf(nothing, { keyless: true })).toEqual([]);
  });
});

describe('locks', () => {
  it('are local unless something is said, and kinds have their own names', async () => {
    expect((await configOf({})).lock).toEqual({ kind: 'local' });
    expect((await configOf({ SNOWCAP_LOCK: 'database' })).lock).toEqual({ kind: 'database' });
  });

  it('are one Redis, or three', async () => {
    expect((await configOf({ SNOWCAP_LOCK: 'redis://:pw@a:6379/1' })).lock).toEqual({
      kind: 'redis',
      urls: ['redis://:pw@a:6379/1'],
    });
    expect((await configOf({ SNOWCAP_LOCK: 'redis://a redis://b rediss://c' })).lock).toMatchObject({
      urls: ['redis://a', 'redis://b', 'rediss://c'],
    });
    expect(await problemsOf({ SNOWCAP_LOCK: 'redis://a redis://b' })).toEqual([
      'SNOWCAP_LOCK: expected one Redis, or three and more: of two, none may be lost, given "redis://a redis://b"',
    ]);
  });

  it.each(['redis', 'http://a', 'redis://a/x', 'Local'])('are refused as %s', async (text) => {
    expect(await problemsOf({ SNOWCAP_LOCK: text })).toHaveLength(1);
  });

  it('over HTTP have a token each, or one for all', async () => {
    const urls = { UPSTASH_REDIS_REST_URL: 'https://a/ https://b https://c' };
    const lock = { SNOWCAP_LOCK: 'upstash', ...urls };
    expect((await configOf({ ...lock, UPSTASH_REDIS_REST_TOKEN: 'x y z' })).lock).toEqual({
      kind: 'upstash',
      endpoints: [
        { url: 'https://a', token: 'x' },
        { url: 'https://b', token: 'y' },
        { url: 'https://c', token: 'z' },
      ],
    });
    expect((await configOf({ ...lock, UPSTASH_REDIS_REST_TOKEN: 'x' })).lock).toMatchObject({
      endpoints: [{ token: 'x' }, { token: 'x' }, { token: 'x' }],
    });
    expect(await problemsOf({ ...lock, UPSTASH_REDIS_REST_TOKEN: 'x hunter2' })).toEqual([
      'SNOWCAP_LOCK: expected one token in UPSTASH_REDIS_REST_TOKEN, or as many as URLs (3), not 2, given "upstash"',
    ]);
    expect(await problemsOf({ SNOWCAP_LOCK: 'upstash' })).toEqual([
      'SNOWCAP_LOCK: expected UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN beside "upstash", given "upstash"',
    ]);
  });
});

describe('each runtime', () => {
  it('refuses what it has no driver for, and says what it has', async () => {
    const problems = await problemsOf(
      {
        SNOWCAP_STORAGE: 'file:/srv/cache',
        SNOWCAP_DATABASE: 'mysql://u:hunter2@db.example/x',
        SNOWCAP_LOCK: 'redis://:hunter2@a',
      },
      { runtime: 'workers' },
    );
    expect(problems).toEqual([
      'SNOWCAP_STORAGE: expected one of "r2:", "s3:" on Cloudflare Workers, given "file:…"',
      'SNOWCAP_DATABASE: expected one of "d1:", "hyperdrive:", "postgres:", "postgresql:" on Cloudflare Workers, given "mysql:…"',
      'SNOWCAP_LOCK: expected one of "local", "database", "upstash" on Cloudflare Workers, given "redis:…"',
      'SNOWCAP_SECRET_KEY_FILE: there are no files on Cloudflare Workers: expected SNOWCAP_SECRET_KEY as a secret',
    ]);
    expect(await problemsOf({ SNOWCAP_STORAGE: 'r2:CACHE', SNOWCAP_DATABASE: 'd1:INDEX' })).toEqual([
      'SNOWCAP_STORAGE: expected one of "file:", "s3:" on Node, given "r2:…"',
      'SNOWCAP_DATABASE: expected one of "sqlite:", "postgres:", "postgresql:", "mysql:", "mariadb:" on Node, given "d1:…"',
    ]);
  });

  it('says what S3 needs on Workers, where nothing is found by itself', async () => {
    const onWorkers = async (environment: Environment): Promise<readonly string[]> => {
      const problems = await problemsOf(
        { SNOWCAP_DATABASE: 'd1:INDEX', ...environment },
        { runtime: 'workers' },
      );
      return problems.filter((problem) => !problem.startsWith('SNOWCAP_SECRET_KEY_FILE'));
    };
    const key = { AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b' };
    expect(await onWorkers({ SNOWCAP_STORAGE: 's3://cache' })).toEqual([
      expect.stringMatching(/^AWS_ACCESS_KEY_ID: expected a key for S3/),
      expect.stringMatching(/^SNOWCAP_STORAGE: expected \?region=/),
    ]);
    expect(await onWorkers({ SNOWCAP_STORAGE: 's3://cache?endpoint=https://r2.example', ...key })).toEqual(
      [],
    );
    expect(await onWorkers({ SNOWCAP_STORAGE: 's3://cache?region=eu-west-1', ...key })).toEqual([]);
    expect(await onWorkers({ SNOWCAP_STORAGE: 's3://cache', AWS_REGION: 'eu-west-1', ...key })).toEqual([]);
    expect(await problemsOf({ SNOWCAP_STORAGE: 's3://cache' }, { runtime: 'lambda' })).toEqual([]);
  });

  it('has defaults of its own', async () => {
    const loaded = await load({}, { runtime: 'lambda', defaults: { SNOWCAP_SPOOL_DIR: '/tmp/spool' } });
    expect(loaded.ok && loaded.config.spoolDir).toBe('/tmp/spool');
  });
});

describe('traces', () => {
  it('are on where there is a collector', async () => {
    expect((await configOf({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4318/' })).tracing).toEqual({
      endpoint: 'http://c:4318/v1/traces',
      headers: {},
      serviceName: 'snowcap',
      resourceAttributes: {},
      sampler: { kind: 'always_on', parentBased: true, ratio: 1 },
    });
    expect(
      (
        await configOf({
          OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4318',
          OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://t/own',
          OTEL_EXPORTER_OTLP_HEADERS: 'authorization=Bearer%20x, team=a',
          OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment=test',
          OTEL_TRACES_SAMPLER: 'traceidratio',
          OTEL_TRACES_SAMPLER_ARG: '0.25',
          OTEL_SERVICE_NAME: 'cache',
        })
      ).tracing,
    ).toEqual({
      endpoint: 'http://t/own',
      headers: { authorization: 'Bearer x', team: 'a' },
      serviceName: 'cache',
      resourceAttributes: { 'deployment.environment': 'test' },
      sampler: { kind: 'traceidratio', parentBased: false, ratio: 0.25 },
    });
    const named = {
      OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4318',
      OTEL_RESOURCE_ATTRIBUTES: 'service.name=cache-eu',
    };
    expect((await configOf(named)).tracing?.serviceName).toBe('cache-eu');
    const off = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4318', OTEL_SDK_DISABLED: 'true' };
    expect((await configOf(off)).tracing).toBeNull();
  });

  it('are refused with every problem, and no header is shown', async () => {
    const problems = await problemsOf({
      OTEL_EXPORTER_OTLP_ENDPOINT: 'c:4318',
      OTEL_EXPORTER_OTLP_HEADERS: 'hunter2',
      OTEL_TRACES_SAMPLER: 'sometimes',
      OTEL_TRACES_SAMPLER_ARG: '2',
    });
    expect(problems).toHaveLength(4);
    expect(problems.join('\n')).not.toContain('hunter2');
  });
});
