import type { Platform } from '../../platform.ts';
import { traced, tracedAlone } from '../../telemetry/tracing.ts';
import type { Schedule } from '../schedule.ts';
import type { CacheServices } from '../services.ts';
import { createWorkLocks } from '../work-lock.ts';
import { runEviction } from './eviction-run.ts';
import type { KeysInUse } from './in-use.ts';
import type { RemovalParts } from './removal.ts';
import { type EvictionReport, type EvictOptions, noneFreed, nonePassedOver } from './report.ts';

/** The evictions of one process. */
export interface Evictions {
  /** @throws what the index throws: what was done until then is done */
  run(options?: EvictOptions): Promise<EvictionReport>;
  /** A body of so many bytes was stored: where there is too much by now, an eviction follows, here or as a job. */
  stored(bytes: number): void;
  /** Ends the run under way after its batch, and begins none that nobody asks for. */
  stop(): void;
  /** Resolves when none is under way. */
  idle(): Promise<void>;
}

/** What a process remembers between its looks at the counters. */
export interface EvictionMemory {
  /** Bytes stored since the last look. */
  stored: number;
  /** Of the next look that comes by time alone, in milliseconds since the epoch. */
  lookAt: number;
  /** Before this time no look is worth anything; milliseconds since the epoch. */
  pausedUntil: number;
}

export interface EvictionsParts extends Pick<RemovalParts, 'onPathsChanged' | 'onRemoved'> {
  readonly services: CacheServices;
  readonly schedule: Schedule;
  readonly inUse: KeysInUse;
  readonly memory: EvictionMemory;
  /** Records the accesses that this process knows of: what they are to is not to go. */
  readonly flushAccesses: () => Promise<void>;
}

const LOOK_EVERY_MS = 30_000;
/** A look comes sooner where so much of the limit was stored. */
const LOOK_AFTER_PART = 1 / 100;
/** Where all that is left must stay, time alone changes that: no look comes sooner. In milliseconds. */
const PAUSE_MS = 60_000;

/** @param now milliseconds since the epoch */
export function createEvictionMemory(now: number): EvictionMemory {
  return { stored: 0, lookAt: now + LOOK_EVERY_MS, pausedUntil: now };
}

export function createEvictions(parts: EvictionsParts): Evictions {
  const { services, schedule, memory } = parts;
  const { platform, settings, metadata } = services;
  const { clock, logger, metrics } = platform;
  const locks = createWorkLocks(services, '');
  const stopping = new AbortController();
  let running: Promise<unknown> | null = null;

  async function run(options: EvictOptions): Promise<EvictionReport> {
    const signal =
      options.signal === undefined ? stopping.signal : AbortSignal.any([options.signal, stopping.signal]);
    if (options.dryRun === true) return await runEviction({ ...parts, alone: false }, { ...options, signal });
    if (running !== null) return await anotherRuns(services);
    const evicting = alone({ ...options, signal });
    const settled = evicting.then(noop, noop).finally(() => {
      running = null;
    });
    running = settled;
    return await evicting;
  }

  async function alone(options: EvictOptions & { readonly signal: AbortSignal }): Promise<EvictionReport> {
    await parts.flushAccesses();
    // It is waited for no longer than a moment, whatever is aborted.
    const lock = await locks.take('evict', 0, new AbortController().signal);
    switch (lock.kind) {
      case 'taken':
        return await anotherRuns(services);
      case 'uncoordinated':
        return await runEviction({ ...parts, alone: false }, options);
      case 'held': {
        const signal = AbortSignal.any([options.signal, lock.lost]);
        try {
          return await runEviction({ ...parts, alone: true }, { ...options, signal });
        } finally {
          await lock.release();
        }
      }
    }
  }

  async function counted(options: EvictOptions): Promise<EvictionReport> {
    try {
      const report = await traced('evict', {}, () => run(options));
      if (options.dryRun !== true) count(platform, report);
      return report;
    } catch (error) {
      metrics.count('snowcap_eviction_runs_total', { outcome: 'failed' });
      logger.error('An eviction failed: the next one goes on', { error });
      throw error;
    }
  }

  /** Looks at the counters, and evicts where the process lives on; else hands that over. */
  async function look(): Promise<void> {
    memory.stored = 0;
    memory.lookAt = clock.now() + LOOK_EVERY_MS;
    if ((await metadata.totals()).presentBytes <= settings.maxSize) return;
    if (schedule.exists) {
      schedule.add({ kind: 'evict' });
    } else if (platform.fillsOutliveClients) {
      const { outcome } = await tracedAlone(platform.tracer, 'evict promptly', {}, () => counted({}));
      if (outcome === 'kept' || outcome === 'storage_fault') memory.pausedUntil = clock.now() + PAUSE_MS;
    }
  }

  return {
    run: (options = {}) => counted(options),
    stored(bytes) {
      memory.stored += bytes;
      const now = clock.now();
      const due = memory.stored > settings.maxSize * LOOK_AFTER_PART || now >= memory.lookAt;
      if (due && now >= memory.pausedUntil && running === null && !stopping.signal.aborted) {
        platform.defer('look whether to evict', look());
      }
    },
    stop() {
      stopping.abort(new Error('This cache is shutting down'));
    },
    async idle() {
      while (running !== null) await running;
    },
  };
}

async function anotherRuns({ metadata, settings }: CacheServices): Promise<EvictionReport> {
  const now = await metadata.totals();
  return {
    outcome: 'another_runs',
    dryRun: false,
    limit: settings.maxSize,
    target: Math.floor(settings.maxSize * settings.lowWater),
    before: now,
    after: now,
    freed: noneFreed(),
    passedOver: nonePassedOver(),
    kept: null,
    expiredPins: [],
    prunedPaths: 0,
  };
}

/** Metrics, and one line of the log. */
function count({ metrics, logger }: Platform, report: EvictionReport): void {
  const { outcome, before, after, freed, passedOver, kept, limit, target } = report;
  metrics.count('snowcap_eviction_runs_total', { outcome });
  for (const [kind, { nars, bytes }] of Object.entries(freed)) {
    if (nars === 0) continue;
    metrics.count('snowcap_evicted_nars_total', { kind }, nars);
    metrics.count('snowcap_evicted_bytes_total', { kind }, bytes);
  }
  const fields = {
    outcome,
    limit,
    target,
    before: before.presentBytes,
    after: after.presentBytes,
    freed,
    passedOver,
    expiredPins: report.expiredPins,
    prunedPaths: report.prunedPaths,
    ...(kept === null ? {} : { kept }),
  };
  if (outcome === 'storage_fault' || (kept !== null && after.presentBytes > limit)) {
    logger.warn('eviction', fields);
  } else {
    logger.info('eviction', fields);
  }
}

const noop = (): void => undefined;
