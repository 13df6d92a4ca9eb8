import { annotate } from '../../telemetry/tracing.ts';
import type { Budget } from '../budget.ts';
import type { CacheMemory } from '../cache-memory.ts';
import { CacheError } from '../errors.ts';
import type { PathFinder } from '../find-path.ts';
import type { Schedule } from '../schedule.ts';
import type { CacheServices } from '../services.ts';
import type { BackgroundVerification } from './background-verification.ts';
import { createWorkLocks, type WorkLocks } from '../work-lock.ts';
import { Fill, type FillOptions } from './fill.ts';
import { createTurns, type Turns } from '../turns.ts';
import type { Sources } from './sources.ts';

/** What a fill needs beside its key. */
export interface FillContext {
  readonly services: CacheServices;
  readonly paths: PathFinder;
  readonly sources: Sources;
  readonly verification: BackgroundVerification;
  readonly schedule: Schedule;
  readonly locks: WorkLocks;
  readonly buffers: Budget;
  readonly spoolSpace: Budget;
  /** What is put out of the spool into a store that buffers it, by the bytes that it buffers. */
  readonly uploads: Turns;
  /** The narinfos of these store-path hashes changed: answers in memory are out of date. */
  readonly onPathsChanged: (hashes: readonly string[]) => void;
  /** The index has this key as present now. */
  readonly onPresent: (key: string, bytes: number) => void;
  /** `verified`, or the code of the failure. */
  readonly onEnd: (result: string) => void;
  /** The fill is over: later requests start anew. */
  readonly onSettled: (fill: Fill) => void;
}

/** The fills under way in this process, at most one a key. */
export interface Fills {
  /** The fill of this key that is under way, if any. */
  underway(key: string): Fill | undefined;
  /** The fill of this key: the one under way, or a new one. */
  join(key: string, options: FillOptions): Fill;
  /** Waits for the fills under way; drops those that are not done when `deadline` is aborted. */
  drain(deadline: AbortSignal): Promise<void>;
  /** For unsaved transfers, from the same budget as buffered bodies. */
  readonly buffers: Budget;
}

export function createFills(
  services: CacheServices,
  parts: Pick<
    FillContext,
    'paths' | 'sources' | 'verification' | 'schedule' | 'onPathsChanged' | 'onPresent'
  >,
  { buffers, spoolSpace, inUse }: Pick<CacheMemory, 'buffers' | 'spoolSpace' | 'inUse'>,
): Fills {
  const { platform } = services;
  const { metrics } = platform;
  const underway = new Map<string, Fill>();
  /** Why later fills are dropped at once; null while they are not. */
  let closed: CacheError | null = null;
  const context: FillContext = {
    ...parts,
    services,
    locks: createWorkLocks(services, 'fill:'),
    buffers,
    spoolSpace,
    // Not of the buffers themselves: clients come first there, and these can wait.
    uploads: createTurns(services.settings.bufferLimit / 2),
    onEnd: (result) => {
      metrics.count('snowcap_fills_total', { result });
      annotate({ 'snowcap.result': result });
    },
    onSettled: settle,
  };

  function settle(fill: Fill): void {
    if (underway.get(fill.key) !== fill) return;
    underway.delete(fill.key);
    metrics.gauge('snowcap_fills_in_flight', underway.size);
  }

  return {
    buffers,
    underway: (key) => underway.get(key),
    join(key, options) {
      const running = underway.get(key);
      if (running !== undefined) return running;
      const fill = new Fill(context, key, options);
      underway.set(key, fill);
      void fill.done.then(inUse.hold(key));
      metrics.gauge('snowcap_fills_in_flight', underway.size);
      // The last answer may be over before the commit is.
      platform.defer('fill a NAR', fill.done);
      if (closed !== null) fill.cancel(closed);
      return fill;
    },
    async drain(deadline) {
      const drop = (): void => {
        closed = new CacheError('busy', 'shutting_down', 'This cache is shutting down');
        for (const fill of underway.values()) fill.cancel(closed);
      };
      if (deadline.aborted) drop();
      deadline.addEventListener('abort', drop, { once: true });
      while (underway.size > 0) {
        await Promise.all([...underway.values()].map((fill) => fill.done));
      }
      deadline.removeEventListener('abort', drop);
    },
  };
}
