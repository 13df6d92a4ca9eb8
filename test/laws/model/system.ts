import type { IndexStore } from '../../../src/database/index-store.ts';
import type { Clock } from '../../../src/platform.ts';
import type { SecretKey } from '../../../src/nix/signing-key.ts';
import type { BlobStore } from '../../../src/storage/blob-store.ts';
import { systemClock } from '../../../src/telemetry/system-clock.ts';
import { startTestCache, type TestCache } from '../../support/test-cache.ts';
import { beginLife, type Life } from './life.ts';
import type { Place } from './places.ts';
import { LIMIT } from './world.ts';

export interface SystemOptions {
  readonly place: Place;
  /** For the spool. */
  readonly directory: string;
  readonly upstream: string;
  readonly secretKey: SecretKey;
  readonly evictPushedAfterMs: number | null;
}

/** A cache whose processes die and start again over one bucket and one index. */
export interface System {
  /** Of the process that runs. */
  cache(): TestCache;
  /** The bucket and the index as they are, whatever becomes of a process. */
  drivers(): { readonly storage: BlobStore; readonly index: IndexStore };
  readonly clock: JumpingClock;
  /**
   * Does something, and all that follows from it, in a process that dies at its `crashAt`-th step from now on. If it does, the
   * next process is there when this resolves.
   *
   * @returns the step before which it died; null where it lives
   */
  attempt(crashAt: number | null, act: () => Promise<void>): Promise<string | null>;
  /** Resolves when nothing is under way, in the background either. */
  settled(): Promise<void>;
  /** Ends the process as one that is asked to, and starts the next one. */
  restart(): Promise<void>;
  /** The same with an empty index. */
  restartWithoutIndex(): Promise<void>;
  end(): Promise<void>;
}

/** The real clock, some time away. */
export interface JumpingClock extends Clock {
  /** May be negative. */
  jump(milliseconds: number): void;
}

export async function startSystem(options: SystemOptions): Promise<System> {
  const { place } = options;
  const clock = jumpingClock();
  let life: Life;
  let drivers: { readonly storage: BlobStore; readonly index: IndexStore };
  let cache: TestCache;

  async function start(): Promise<void> {
    life = beginLife();
    const { mortal, mortalClock, checkpoint } = life;
    drivers = await place.open(checkpoint);
    const { storage, index } = drivers;
    cache = await startTestCache({
      directory: options.directory,
      upstreams: [options.upstream],
      secretKeys: [options.secretKey],
      clock: mortalClock(clock),
      checkpoint,
      settings: { maxSize: LIMIT, lowWater: 0.7, evictPushedAfterMs: options.evictPushedAfterMs },
      // A busy machine is no fault of the upstream.
      upstreamSettings: {
        narInfoHeadersTimeoutMs: 20_000,
        narHeadersTimeoutMs: 20_000,
        idleTimeoutMs: 20_000,
      },
      replace: () => ({
        storage: mortal('storage', storage),
        metadata: mortal('index', index),
        upkeep: mortal('index', index.upkeep),
      }),
    });
    await cache.cache.startUp();
  }

  /** Some work goes on unseen by gauges: it takes steps. */
  async function settled(): Promise<void> {
    for (let before = -1; before !== life.steps();) {
      before = life.steps();
      await life.atRest();
      await cache.settled();
      await systemClock.sleep(5);
    }
  }

  async function stop(): Promise<void> {
    await cache.close();
    await closeDrivers();
  }

  async function closeDrivers(): Promise<void> {
    await drivers.storage.close();
    await drivers.index.close();
  }

  await start();
  return {
    cache: () => cache,
    drivers: () => drivers,
    clock,
    async attempt(crashAt, act) {
      life.endAfter(crashAt);
      const done = act().then(settled);
      try {
        await Promise.race([done, life.over]);
      } catch (error) {
        if (!life.isOver()) throw error;
      }
      if (!life.isOver()) {
        life.endAfter(null);
        return null;
      }
      done.catch(() => undefined);
      const step = life.lastStep();
      await cache.abandon();
      await life.atRest();
      await closeDrivers();
      await start();
      return step;
    },
    settled,
    async restart() {
      await stop();
      await start();
    },
    async restartWithoutIndex() {
      await stop();
      await place.loseIndex();
      await start();
    },
    async end() {
      await stop();
      await place.remove();
    },
  };
}

function jumpingClock(): JumpingClock {
  let shift = 0;
  return {
    now: () => systemClock.now() + shift,
    sleep: (milliseconds, signal) => systemClock.sleep(milliseconds, signal),
    jump(milliseconds) {
      shift += milliseconds;
    },
  };
}
