import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formatProblem, loadConfig } from '../../../src/config/load.ts';
import { createNodePlatform } from '../../../src/runtime/node/node-platform.ts';
import { openStorage } from '../../../src/runtime/node/open-storage.ts';
import type { BlobStore } from '../../../src/storage/blob-store.ts';
import type { Logger } from '../../../src/telemetry/logger.ts';
import { createPrometheusMetrics } from '../../../src/telemetry/prometheus.ts';

const KEYS = { AWS_ACCESS_KEY_ID: 'key-id', AWS_SECRET_ACCESS_KEY: 'secret' };

let directory: string;
let warnings: string[];
const opened: BlobStore[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'snowcap-open-storage-'));
  warnings = [];
});

afterEach(async () => {
  for (const store of opened.splice(0)) await store.close();
  await rm(directory, { recursive: true, force: true });
});

async function open(environment: Readonly<Record<string, string>>): Promise<BlobStore> {
  const loaded = await loadConfig({
    environment: { SNOWCAP_SECRET_KEY_FILE: join(directory, 'key'), ...environment },
    hostname: 'box',
    terminal: false,
  });
  if (!loaded.ok) throw new Error(loaded.problems.map(formatProblem).join('\n'));
  const quiet = (): void => undefined;
  const logger: Logger = {
    debug: quiet,
    info: quiet,
    warn: (message) => void warnings.push(message),
    error: quiet,
    with: () => logger,
  };
  const store = await openStorage(loaded.config, createNodePlatform(logger, createPrometheusMetrics()));
  opened.push(store);
  return store;
}

async function urlFrom(environment: Readonly<Record<string, string>>): Promise<URL> {
  const store = await open({ ...KEYS, ...environment });
  return new URL((await store.createDownloadUrl?.('nar/x.nar', { expiresInSeconds: 60 })) ?? '');
}

describe('a bucket that a configuration asks for', () => {
  it('is reached at its endpoint, below its prefix, in the region "auto" where none is given', async () => {
    const url = await urlFrom({
      SNOWCAP_STORAGE: 's3://cache/team/nix?endpoint=http://localhost:9000&pathStyle=true',
    });
    expect(url.origin + url.pathname).toBe('http://localhost:9000/cache/team/nix/nar/x.nar');
    expect(url.searchParams.get('X-Amz-Credential')).toMatch(/^key-id\/\d+\/auto\/s3\//);
  });

  it('is given to clients at its public endpoint', async () => {
    const url = await urlFrom({
      SNOWCAP_STORAGE:
        's3://cache?endpoint=http://localhost:9000&publicEndpoint=https://cdn.test&pathStyle=true&region=here',
    });
    expect(url.origin + url.pathname).toBe('https://cdn.test/cache/nar/x.nar');
    expect(url.searchParams.get('X-Amz-Credential')).toMatch(/\/here\/s3\//);
  });

  it('is one of AWS without an endpoint, with the session token that was given', async () => {
    const url = await urlFrom({
      SNOWCAP_STORAGE: 's3://cache?region=eu-central-1',
      AWS_SESSION_TOKEN: 'token',
    });
    expect(url.host).toBe('cache.s3.eu-central-1.amazonaws.com');
    expect(url.searchParams.get('X-Amz-Security-Token')).toBe('token');
  });

  it('takes parts of the size and number that are asked for', async () => {
    const store = await open({
      ...KEYS,
      SNOWCAP_STORAGE: 's3://cache?region=x&partSize=5M&concurrency=2',
    });
    expect(store.putMemory).toBe(3 * 5 * 1024 ** 2);
  });
});

describe('SNOWCAP_NAR_DELIVERY=redirect', () => {
  it.each([
    ['warns once over a storage without URLs', 'file:', 'redirect', 1],
    ['is silent over one that has them', 's3://cache?region=x', 'redirect', 0],
    ['left out, is silent over any', 'file:', 'auto', 0],
  ])('%s', async (_what, storage, delivery, count) => {
    await open({
      ...KEYS,
      SNOWCAP_STORAGE: storage === 'file:' ? `file:${join(directory, 'storage')}` : storage,
      SNOWCAP_NAR_DELIVERY: delivery,
    });
    expect(warnings).toHaveLength(count);
  });
});
