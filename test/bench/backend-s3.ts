import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseStorage } from '../../src/config/places.ts';
import { formatSecretKey, generateSecretKey } from '../../src/nix/signing-key.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { s3ForNode } from '../../src/storage/s3/for-node.ts';
import { createS3Store } from '../../src/storage/s3/s3.ts';
import { type Backends, backendsMissing, startBackends } from '../support/backends.ts';
import type { Backend, Place } from './backend.ts';
import { startSnowcap } from './snowcap.ts';

/** How long a URL of the store works that is read without Snowcap: longer than a bench. */
const URL_SECONDS = 12 * 60 * 60;

/** A Node process over S3 (the simulator of R2 in workerd), PostgreSQL and Redis, all on this machine. */
export async function openS3Backend(): Promise<Backend> {
  const missing = backendsMissing();
  if (missing !== null) throw new Error(`Cannot measure over S3: ${missing}`);
  const backends = await startBackends();
  const secretKey = formatSecretKey(await generateSecretKey('bench-snowcap-1'));
  return {
    name: 's3',
    openPlace: () => openPlace(backends, secretKey),
    stop: () => backends.stop(),
  };
}

async function openPlace(backends: Backends, secretKey: string): Promise<Place> {
  const fresh = await backends.fresh();
  const common = {
    ...fresh,
    // The default.
    SNOWCAP_DATABASE_POOL_SIZE: '',
    SNOWCAP_LOCK: backends.redisUrl,
    SNOWCAP_SECRET_KEY: secretKey,
  };
  const directory = await mkdtemp(join(tmpdir(), 'snowcap-bench-data-'));
  const store = openStore(fresh);
  return {
    start: ({ settings, ...options }) =>
      startSnowcap(directory, { ...options, settings: { ...common, ...settings } }),
    async direct(key) {
      const url = await store.createDownloadUrl?.(key, { expiresInSeconds: URL_SECONDS });
      if (url === undefined) throw new Error(`There is no URL for ${key}`);
      const { port, pathname, search } = new URL(url);
      return { port: Number(port), path: `${pathname}${search}` };
    },
    async remove() {
      const keys: string[] = [];
      for await (const { key } of store.list('')) keys.push(key);
      await store.delete(keys);
      await store.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** The store of these settings, to read it without Snowcap. */
function openStore(settings: Readonly<Record<string, string>>): BlobStore {
  const config = parseStorage(settings['SNOWCAP_STORAGE'] ?? '');
  if (config.kind !== 's3') throw new Error(`There is no S3 at ${config.kind}`);
  const { bucket, prefix, pathStyle, region, endpoint } = config;
  return createS3Store({
    ...s3ForNode(),
    bucket,
    prefix: prefix.replace(/\/$/, ''),
    pathStyle,
    ...(region === null ? {} : { region }),
    ...(endpoint === null ? {} : { endpoint }),
    credentials: {
      accessKeyId: settings['AWS_ACCESS_KEY_ID'] ?? '',
      secretAccessKey: settings['AWS_SECRET_ACCESS_KEY'] ?? '',
    },
  });
}
