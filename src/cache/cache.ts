import { type CacheInfo, formatCacheInfo } from '../nix/cache-info.ts';
import { formatPublicKey } from '../nix/signing-key.ts';
import type { BackgroundJob } from '../platform.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { UpstreamStatus } from '../upstream/upstreams.ts';
import { createAdoption } from './adoption.ts';
import { createBucketTrust } from './bucket-trust.ts';
import { type CacheMemory, createCacheMemory } from './cache-memory.ts';
import { createEvictions } from './evict/evictions.ts';
import type { EvictionReport, EvictOptions } from './evict/report.ts';
import { createBackgroundVerification } from './fill/background-verification.ts';
import { createFills } from './fill/fills.ts';
import { createSources } from './fill/sources.ts';
import { createPathFinder } from './find-path.ts';
import { createListings, type ListingAnswer } from './get-listing.ts';
import { type GetNarParts, getNar, type NarAnswer, type NarRequest } from './get-nar.ts';
import { getNarInfo, type NarInfoAnswer } from './get-nar-info.ts';
import { headNar, type NarHead } from './head-nar.ts';
import { createPassage } from './passage.ts';
import { checkReadiness, type Readiness } from './readiness.ts';
import { createPins, type Pins } from './pins.ts';
import { createRecency } from './recency.ts';
import { createRedirects } from './redirects.ts';
import { createRemovals, type Removals } from './removals.ts';
import { type JobOutcome, runJob } from './run-job.ts';
import { createSchedule } from './schedule.ts';
import type { CacheServices } from './services.ts';
import { storedBytes } from './stored-bytes.ts';
import { withdrawUntrusted } from './withdraw.ts';

/** The most that is read of a stored nix-cache-info. */
const MOST_CACHE_INFO_BYTES = 64 * 1024;

/** Everything that a Snowcap does, whatever it is asked through. */
export interface Cache {
  /** @param hash hash part of a store path @throws CacheError */
  getNarInfo(hash: string): Promise<NarInfoAnswer>;
  /** @throws CacheError */
  getNar(request: NarRequest): Promise<NarAnswer>;
  /** @throws CacheError */
  headNar(key: string, query: string): Promise<NarHead>;
  /** @param hash hash part of a store path @throws CacheError */
  getListing(hash: string): Promise<ListingAnswer>;
  /** The text of our own nix-cache-info. */
  readonly cacheInfo: string;
  /** Each signing key, as clients list it in `trusted-public-keys`. */
  readonly publicKeys: readonly string[];
  /**
   * Does what `Platform.schedule` was handed: to be called where a client waits for nothing. Never rejects; done twice, it
   * does no harm.
   *
   * @param signal aborted when time runs out: what is unfinished is dropped, and nothing of it is stored
   */
  run(job: BackgroundJob, signal?: AbortSignal): Promise<JobOutcome>;
  /**
   * Brings the stored bodies from above their limit down to the low-water mark, in the order of `eviction-order.ts`, and
   * tells what keeps it from that. One run at a time, over all instances.
   *
   * @throws what the index throws: what was done until then is done, and the next run goes on
   */
  evict(options?: EvictOptions): Promise<EvictionReport>;
  readonly pins: Pins;
  /** Has the closure of a pin downloaded in the background: by the process that lives on, or as a job. */
  fetchPinLater(name: string): void;
  readonly removals: Removals;
  readiness(): Promise<Readiness>;
  upstreams(): readonly UpstreamStatus[];
  /**
   * Whether the bucket says of itself what holds today. If not, `startUp` or `prepareBucket` is due: for runtimes that
   * start often. Two storage reads.
   *
   * @throws StorageError
   */
  isPrepared(): Promise<boolean>;
  /** The part of `startUp` that costs no time for bodies. Never rejects. */
  prepareBucket(): Promise<void>;
  /**
   * Work of a process that lives on: writes nix-cache-info into the bucket, withdraws what is not trusted any more,
   * verifies what an earlier process left unverified. Never rejects; may take long.
   */
  startUp(): Promise<void>;
  /** Writes the accesses that wait for their batch. */
  flush(): Promise<void>;
  /** Lets the fills under way end, and drops them when `deadline` is aborted; then closes nothing itself. */
  drain(deadline: AbortSignal): Promise<void>;
}

/**
 * @param memory what this process remembers: to be given where each request has a cache of its own
 * @default a memory of its own
 */
export function createCache(
  services: CacheServices,
  memory: CacheMemory = createCacheMemory(services.settings, services.platform),
): Cache {
  const { platform } = services;
  const { narInfos, negative, nars: narMemory } = memory;
  const onPathsChanged = (hashes: readonly string[]): void => {
    for (const hash of hashes) {
      narInfos.forget(hash);
      negative.forget(hash);
    }
  };
  const paths = createPathFinder(services, negative);
  const sources = createSources(services, memory.distrust);
  const schedule = createSchedule(platform, memory.scheduled);
  const recency = createRecency(services, memory.recency);
  const onRemoved = (key: string): void => narMemory.forget(key);
  const evictions = createEvictions({
    services,
    schedule,
    inUse: memory.inUse,
    memory: memory.eviction,
    flushAccesses: () => recency.flush(),
    onPathsChanged,
    onRemoved,
  });
  const onStored = (bytes: number): void => evictions.stored(bytes);
  const verification = createBackgroundVerification(services, schedule, {
    onPathsChanged,
    onRemoved,
    onStored,
  });
  const adoption = createAdoption(services, verification, memory.adoption);
  const onPresent = (key: string, bytes: number): void => {
    adoption.known(key);
    onStored(bytes);
  };
  const fills = createFills(
    services,
    { paths, sources, verification, schedule, onPathsChanged, onPresent },
    memory,
  );
  const pins = createPins(services, paths, fills);
  const stopping = new AbortController();
  const passage = createPassage({ services, paths, sources, buffers: fills.buffers });
  const redirects = createRedirects({ services, paths, sources, fills, passage, schedule });
  const narParts: GetNarParts = {
    services,
    fills,
    passage,
    recency,
    adoption,
    narMemory,
    redirects,
    inUse: memory.inUse,
  };
  const listings = createListings({
    services,
    paths,
    unlistable: memory.unlistable,
    getNar: (request) => getNar(narParts, { ...request, direct: true }),
  });
  const bucketTrust = createBucketTrust(services, memory.bucketTrust);
  const cacheInfo = formatCacheInfo(cacheInfoOf(services));
  const preparation: readonly Step[] = [
    ['write nix-cache-info', () => storeCacheInfo(services, cacheInfo)],
    ['withdraw what is not trusted any more', () => withdrawUntrusted(services, bucketTrust, onPathsChanged)],
  ];

  return {
    cacheInfo,
    publicKeys: services.signers.map((signer) => formatPublicKey(signer.publicKey)),
    getNarInfo: (hash) => getNarInfo({ services, memory: narInfos, paths, bucketTrust }, hash),
    getNar: (request) => getNar(narParts, request),
    headNar: (key, query) => headNar({ services, paths, sources }, key, query),
    getListing: (hash) => listings.get(hash),
    run: (job, signal) => runJob({ services, fills, verification, evictions, pins }, job, signal),
    evict: (options) => evictions.run(options),
    pins,
    fetchPinLater(name) {
      if (schedule.exists) schedule.add({ kind: 'fetch-pin', key: name });
      else platform.defer('fetch a pin', pins.fetch(name, { signal: stopping.signal }));
    },
    removals: createRemovals(services, onPathsChanged, onRemoved),
    readiness: () => checkReadiness(services),
    upstreams: () => services.upstreams.status(),
    async isPrepared() {
      const stored = await storedBytes(services.storage, 'nix-cache-info', MOST_CACHE_INFO_BYTES);
      const told = stored === null ? null : new TextDecoder().decode(stored);
      return told === cacheInfo && (await bucketTrust.checked()) !== null;
    },
    prepareBucket: () => takeSteps(platform.logger, preparation),
    startUp: () =>
      takeSteps(platform.logger, [
        ...preparation,
        ['verify what was left unverified', () => verification.resume()],
      ]),
    flush: () => recency.flush(),
    async drain(deadline) {
      verification.stop();
      evictions.stop();
      stopping.abort(new Error('This cache is shutting down'));
      await fills.drain(deadline);
      await verification.idle();
      await evictions.idle();
      await recency.flush();
    },
  };
}

/** What it is, for the log, and the work. */
type Step = readonly [string, () => Promise<unknown>];

async function takeSteps(logger: Logger, steps: readonly Step[]): Promise<void> {
  for (const [what, step] of steps) {
    await step().catch((error: unknown) => {
      logger.error('A step of starting up failed; it is taken again at the next start', { what, error });
    });
  }
}

function cacheInfoOf({ settings }: CacheServices): CacheInfo {
  return { storeDir: settings.storeDir, wantMassQuery: true, priority: settings.priority, extra: [] };
}

async function storeCacheInfo({ storage }: CacheServices, text: string): Promise<void> {
  const bytes = new TextEncoder().encode(text);
  await storage.put('nix-cache-info', { kind: 'bytes', bytes }, { contentType: 'text/x-nix-cache-info' });
}
