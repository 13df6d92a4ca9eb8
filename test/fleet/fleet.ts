import { expect } from 'vitest';
import type { IndexStore } from '../../src/database/index-store.ts';
import {
  createSigner,
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
} from '../../src/nix/signing-key.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { createS3Store } from '../../src/storage/s3/s3.ts';
import { s3ForNode } from '../../src/storage/s3/for-node.ts';
import { type BundledWorker, startBundledWorker } from '../support/bundled-worker.ts';
import { type Behaviour, type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { publish, type SignedPath, upstreamPublicKey } from '../support/signed-path.ts';
import { SnowcapProcess } from '../support/snowcap-process.ts';
import type { Place, Servers } from './servers.ts';

/** How an instance reaches its locks: Redis over TCP or HTTP, or rows of the index. */
export type Locks = 'tcp' | 'rest' | 'database';

export interface FleetOptions {
  /** The locks of each instance, and so how many there are. Default two over TCP and one over HTTP. */
  readonly locks?: readonly Locks[];
  /** How many of the bundled Worker in workerd join them, with locks over HTTP. Default 0. */
  readonly workers?: number;
  /** Upstreams of each instance, by its number, where they are not all the same. */
  readonly upstreamsOf?: (instance: number) => readonly string[];
  /** Further settings of every instance. */
  readonly settings?: Readonly<Record<string, string>>;
}

/** Instances of one cache over the same servers. */
export interface Fleet {
  /** Those on Node. */
  readonly instances: readonly SnowcapProcess[];
  readonly workers: readonly BundledWorker[];
  /** Of all instances, those on Node first. */
  readonly urls: readonly string[];
  /** Has nothing at first. */
  readonly upstream: FaultServer;
  /** The bucket, past what is broken of the network. */
  readonly bucket: BlobStore;
  /** Its folder in the bucket of the server. */
  readonly prefix: string;
  /** The index, past what is broken of the network. */
  readonly index: IndexStore;
  /** What every instance signs with, in Nix's format. */
  readonly publicKey: string;
  /** As if the index had been lost. */
  loseIndex(): Promise<void>;
  /** @throws Error if one of them ended by itself */
  close(): Promise<void>;
}

const DEFAULT_LOCKS: readonly Locks[] = ['tcp', 'tcp', 'rest'];

/** Starts instances on Node over a place of their own. Close it. */
export async function startFleet(servers: Servers, options: FleetOptions = {}): Promise<Fleet> {
  const { locks = DEFAULT_LOCKS, settings = {}, workers: workerCount = 0 } = options;
  const place = await servers.createPlace();
  const upstream = await startFaultServer();
  const { upstreamsOf = () => [upstream.url] } = options;
  const secretKey = await generateSecretKey('fleet.test-1');
  const { publicKey } = await createSigner(secretKey);
  const trusted = await upstreamPublicKey();
  const bucket = openBucket(servers, place);
  const index = await servers.index.open(place.databaseUrl);
  const instances: SnowcapProcess[] = [];
  const workers: BundledWorker[] = [];

  const settingsOf = (kind: Locks): Readonly<Record<string, string>> => ({
    ...place.settings,
    ...locksOf(servers, kind),
    SNOWCAP_SECRET_KEY: formatSecretKey(secretKey),
    // The test looks at what is shared, not at what an instance remembers.
    SNOWCAP_NAR_INFO_TTL: '0',
    SNOWCAP_NEGATIVE_TTL: '0',
    ...settings,
  });

  async function start(number: number, kind: Locks): Promise<SnowcapProcess> {
    const upstreams = upstreamsOf(number);
    return await SnowcapProcess.start({ upstreams, trustedPublicKeys: [trusted], env: settingsOf(kind) });
  }

  async function startWorker(number: number): Promise<BundledWorker> {
    return await startBundledWorker({
      settings: {
        ...settingsOf('rest'),
        SNOWCAP_UPSTREAMS: upstreamsOf(number).join(' '),
        SNOWCAP_TRUSTED_PUBLIC_KEYS: trusted,
        SNOWCAP_LOG_LEVEL: 'debug',
      },
      secretKey: formatSecretKey(secretKey),
    });
  }

  async function close(): Promise<void> {
    const ended = await Promise.allSettled([
      ...instances.map((instance) => instance.dispose()),
      ...workers.map((worker) => worker.stop()),
    ]);
    await Promise.all([bucket.close(), index.close(), upstream.close()]);
    for (const one of ended) if (one.status === 'rejected') throw one.reason;
  }

  const fleet: Fleet = {
    instances,
    workers,
    get urls() {
      return [...instances, ...workers].map(({ url }) => url);
    },
    upstream,
    bucket,
    prefix: place.prefix,
    index,
    publicKey: formatPublicKey(publicKey),
    loseIndex: () => servers.index.empty(place.databaseUrl),
    close,
  };
  const starting = locks.map((kind, number) => start(number, kind));
  const started = await Promise.allSettled(starting);
  for (const one of started) if (one.status === 'fulfilled') instances.push(one.value);
  try {
    // Tells why one of them did not start.
    await Promise.all(starting);
    for (let n = 0; n < workerCount; n += 1) workers.push(await startWorker(locks.length + n));
    return fleet;
  } catch (error) {
    await close();
    throw error;
  }
}

/** Lets an upstream have all of them, as `publish` does. */
export function publishAll(
  upstream: FaultServer,
  paths: readonly SignedPath[],
  behaviour: Behaviour = {},
): void {
  for (const path of paths) publish(upstream, path, behaviour);
}

/** What the instances on Node have logged as wrong, to be shown where a test fails. */
export function errorsOf({ instances }: Fleet): string {
  const lines = instances.flatMap(({ logs }) =>
    logs.filter(({ level }) => level === 'error' || level === 'warn'),
  );
  return lines.map((line) => JSON.stringify(line).slice(0, 1000)).join('\n');
}

/** How often the upstream was asked for the body of a path. */
export function downloadsOf(upstream: FaultServer, path: SignedPath): number {
  return upstream.requestsTo(`/${path.url}`, 'GET').length;
}

/** What an instance logs where it goes on by itself, as it is meant to: its locks gave no answer in time, or it has no room. */
const BY_ITSELF = ['"operation":"acquire"', '"why":"no room for it'];

/**
 * Each body was fetched once. But for those for which the locks gave an instance no answer in time, as on a
 * machine that is busy with other things, or that met a Worker with no memory for one more: it is meant to go on
 * without, and logs that. They must be few.
 */
export function expectDownloadedOnce(
  { upstream, instances, workers, urls }: Fleet,
  paths: readonly SignedPath[],
): void {
  const lines = [
    ...instances.flatMap(({ logs }) => logs.map((line) => JSON.stringify(line))),
    ...workers.flatMap(({ logs }) => logs),
  ];
  const excuses = lines.filter((line) => BY_ITSELF.some((part) => line.includes(part)));
  const downloads = new Map(paths.map((path) => [path, downloadsOf(upstream, path)]));
  const strict = paths.filter((path) => linesOf(path, excuses).length === 0);
  const repeated = strict.filter((path) => downloads.get(path) !== 1);
  expect(repeated.map((path) => historyOf(upstream, path, lines)).join('\n')).toBe('');
  expect(strict.length, `${excuses.length} times without a lock, or without room`).toBeGreaterThan(
    0.5 * paths.length,
  );
  for (const count of downloads.values()) expect(count).toBeLessThanOrEqual(urls.length);
  const again = [...downloads.values()].filter((count) => count > 1).length;
  process.stdout.write(
    `${paths.length} NARs: ${paths.length - again} downloaded once, ${again} again for want of a lock or of room\n`,
  );
}

/** What the upstream was asked for of one body, and what the instances logged of it: why it was asked again. */
function historyOf({ requests }: FaultServer, path: SignedPath, lines: readonly string[]): string {
  const asked = requests.filter((request) => request.path === `/${path.url}`);
  const begun = asked[0]?.at ?? 0;
  return [
    `${path.url}, ${path.body.length} bytes, asked for ${asked.length} times:`,
    ...asked.map(({ method, at, headers, status, bytesSent, state }) => {
      const { range = 'whole' } = headers;
      return `  +${Math.round(at - begun)} ms ${method}, ${range}: ${status}, ${bytesSent} bytes, ${state}`;
    }),
    ...linesOf(path, lines).map((line) => `  ${line.slice(0, 500)}`),
  ].join('\n');
}

/** Those of the lines that name the body: by its URL at the upstream, or by a key that is derived from its path. */
function linesOf({ url, hash }: SignedPath, lines: readonly string[]): readonly string[] {
  return lines.filter((line) => line.includes(url) || line.includes(hash));
}

function locksOf({ locks }: Servers, kind: Locks): Readonly<Record<string, string>> {
  switch (kind) {
    case 'tcp':
      return { SNOWCAP_LOCK: locks.tcp };
    case 'rest':
      return {
        SNOWCAP_LOCK: 'upstash',
        UPSTASH_REDIS_REST_URL: locks.rest.url,
        UPSTASH_REDIS_REST_TOKEN: locks.rest.token,
      };
    case 'database':
      return { SNOWCAP_LOCK: 'database' };
  }
}

function openBucket({ s3 }: Servers, { prefix }: Place): BlobStore {
  const { endpoint, bucket, region, credentials } = s3;
  return createS3Store({ ...s3ForNode(), endpoint, bucket, region, credentials, prefix, pathStyle: true });
}
