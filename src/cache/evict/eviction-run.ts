import type { Totals } from '../../database/metadata-store.ts';
import type { Evictable, EvictingNar } from '../../database/upkeep-store.ts';
import { REBUILDING_MARK } from '../marks.ts';
import { removePinMirrors } from '../mirrors.ts';
import type { KeysInUse } from './in-use.ts';
import { pruneMetadata } from './prune.ts';
import { removeMarked, type RemovalParts } from './removal.ts';
import {
  add,
  type EvictedKind,
  type EvictionOutcome,
  type EvictionReport,
  type EvictOptions,
  noneFreed,
  nonePassedOver,
  take,
} from './report.ts';
import { createSelection, keptBytes, PAGE, type Selection, sizeOf, upTo } from './selection.ts';

export interface RunParts extends RemovalParts {
  readonly inUse: KeysInUse;
  /** Whether the run is known to be the only one. What another one may be about to remove is not taken up. */
  readonly alone: boolean;
}

/** A body that was stored or used in the last minutes stays: its client may come back for it. In milliseconds. */
export const GRACE_MS: number = 10 * 60 * 1000;

/**
 * One eviction: removes what expired, resumes what a run before has left, brings the bodies down to their low-water
 * mark where they are above their limit, and forgets paths that were not used for long.
 *
 * @throws what the index throws
 */
export async function runEviction(parts: RunParts, options: EvictOptions): Promise<EvictionReport> {
  const { metadata, upkeep, platform, settings, storage } = parts.services;
  const { clock } = platform;
  const { dryRun = false, budgetMs = Number.POSITIVE_INFINITY, signal, onCandidate = noop } = options;
  const begunAt = clock.now();
  const limit = settings.maxSize;
  const target = Math.floor(limit * settings.lowWater);
  const freed = noneFreed();
  const passedOver = nonePassedOver();
  /** Of the last batch the storage deleted nothing: one body may be at fault, or all. The next batch is of one body. */
  let doubtful = false;
  let storageFault = false;

  const isOver = (): boolean => signal?.aborted === true || clock.now() - begunAt >= budgetMs;

  /** In a dry run, what they would be. */
  async function totals(): Promise<Totals> {
    const { presentBytes, presentNars } = await metadata.totals();
    const planned = dryRun ? [freed.obtainable, freed.pushed] : [];
    return {
      presentBytes: planned.reduce((left, { bytes }) => left - bytes, presentBytes),
      presentNars: planned.reduce((left, { nars }) => left - nars, presentNars),
    };
  }

  /** @returns the keys of those that have gone */
  async function remove(marked: readonly EvictingNar[], kind: EvictedKind): Promise<readonly string[]> {
    const removed = await removeMarked(parts, marked, { resumed: kind === 'resumed' });
    for (const { fileSize } of removed.gone) add(freed[kind], fileSize);
    for (const { fileSize } of removed.lost) add(passedOver.lost, fileSize);
    for (const { fileSize } of removed.faulty) add(passedOver.fault, fileSize);
    const failed = removed.faulty.length > 0 && removed.gone.length === 0;
    // What an earlier run could not remove may never be removed: it must not keep the others.
    storageFault ||= failed && doubtful && kind !== 'resumed';
    if (failed || removed.gone.length > 0) doubtful = failed;
    return removed.gone.map(({ key }) => key);
  }

  /**
   * @param onKept called with each that somebody else keeps by now
   * @returns the keys of those that have gone
   */
  async function evict(
    chosen: readonly Evictable[],
    kind: EvictedKind,
    onKept: (one: Evictable) => void,
  ): Promise<readonly string[]> {
    if (dryRun) {
      for (const one of chosen) add(freed[kind], sizeOf(one));
      return chosen.map(({ nar }) => nar.key);
    }
    if (chosen.length === 0) return [];
    await platform.checkpoint?.('evict:mark');
    const seen = chosen.map(({ nar: { key, generation, lastAccess } }) => ({ key, generation, lastAccess }));
    const marked = await upkeep.markEvicting(seen, clock.now());
    const isMarked = new Set(marked.map(({ key }) => key));
    for (const one of chosen) if (!isMarked.has(one.nar.key)) onKept(one);
    return await remove(marked, kind);
  }

  /** What a run that died has marked, and perhaps removed in part. */
  async function resume(): Promise<void> {
    let after = 0;
    while (!isOver()) {
      const left = await upkeep.listEvicting(after, PAGE);
      const last = left.at(-1);
      if (last === undefined) return;
      after = last.id;
      await remove(left, 'resumed');
      await clock.sleep(0);
    }
  }

  /**
   * What has gone may have been the last that referred to these: they are older, so they go before what comes next. They
   * are asked for all at once: few of them go at a time, from the top of a closure down.
   *
   * @returns those that have gone
   */
  async function evictReferred(selection: Selection): Promise<readonly Evictable[]> {
    const gone: Evictable[] = [];
    for (let at = 0; at < selection.referred.length && !isOver() && !storageFault;) {
      const excess = (await totals()).presentBytes - target;
      if (excess <= 0) break;
      const chunk = upTo(
        selection.referred.slice(at).filter(({ nar }) => !parts.inUse.has(nar.key)),
        excess,
      );
      const keys = new Set(await evict(chunk, 'pushed', noop));
      gone.push(...chunk.filter(({ nar }) => keys.has(nar.key)));
      selection.referred = selection.referred.filter(({ nar }) => !keys.has(nar.key));
      at = keys.size > 0 ? 0 : at + Math.max(1, chunk.length);
      await clock.sleep(0);
    }
    return gone;
  }

  /** @returns whether the low-water mark is reached */
  async function evictAll(pushed: boolean, unusedMs: number): Promise<boolean> {
    const kind = pushed ? 'pushed' : 'obtainable';
    const accessedBefore = begunAt - Math.max(GRACE_MS, unusedMs);
    for (;;) {
      let gone = 0;
      // Of pushed ones those that are referred to can go only when their referrers have gone: the last pass tells.
      const standing = nonePassedOver();
      const selection = createSelection({
        upkeep,
        pushed,
        accessedBefore,
        onCandidate,
        now: clock.now(),
        inUse: parts.inUse,
        passedOver: standing,
      });
      for (;;) {
        const excess = (await totals()).presentBytes - target;
        const chosen =
          excess <= 0 || isOver() || storageFault ? null : await selection.next(excess, doubtful ? 1 : PAGE);
        if (chosen === null) break;
        const went = await evict(chosen, kind, (one) => add(passedOver.lost, sizeOf(one)));
        const freedNow = went.length > 0 && pushed && !dryRun ? await evictReferred(selection) : [];
        for (const one of freedNow) take(standing.referred, sizeOf(one));
        gone += went.length + freedNow.length;
        // Answers go first: this may walk over a million rows.
        await clock.sleep(0);
      }
      const reached = (await totals()).presentBytes <= target;
      const more = pushed && gone > 0 && standing.referred.nars > 0;
      if (more && !dryRun && !reached && !isOver() && !storageFault) continue;
      for (const reason of ['pinned', 'referred', 'in_use'] as const) {
        passedOver[reason].nars += standing[reason].nars;
        passedOver[reason].bytes += standing[reason].bytes;
      }
      return reached;
    }
  }

  async function bringDown(before: Totals): Promise<EvictionOutcome> {
    if (before.presentBytes <= limit) return 'within_limit';
    const { evictPushedAfterMs } = settings;
    if (await evictAll(false, 0)) return 'reached';
    const pushedToo = evictPushedAfterMs !== null && !isOver() && !storageFault;
    if (pushedToo && (await evictAll(true, evictPushedAfterMs))) return 'reached';
    if (storageFault || doubtful) return 'storage_fault';
    return isOver() ? 'out_of_time' : 'kept';
  }

  async function removeExpiredPins(): Promise<readonly string[]> {
    const names = await upkeep.refreshPins(clock.now());
    if (names.length > 0) {
      await platform.checkpoint?.('evict:delete-pins');
      await removePinMirrors(storage, names).catch((error: unknown) => {
        platform.logger.warn('The mirrors of pins that have expired could not be removed', { names, error });
      });
    }
    return names;
  }

  const before = await metadata.totals();
  const report = { dryRun, limit, target, before, freed, passedOver, kept: null, prunedPaths: 0 };
  if ((await upkeep.getMark(REBUILDING_MARK)) !== null) {
    return { ...report, outcome: 'rebuilding', after: before, expiredPins: [] };
  }
  const expiredPins = dryRun ? [] : await removeExpiredPins();
  if (!dryRun && parts.alone) await resume();
  const outcome = await bringDown(await metadata.totals());
  const after = await totals();
  const kept =
    outcome === 'kept'
      ? await keptBytes(
          { upkeep, inUse: parts.inUse, accessedBefore: begunAt - GRACE_MS, now: clock.now() },
          after.presentBytes - passedOver.fault.bytes + (dryRun ? freed.obtainable.bytes : 0),
          isOver,
        )
      : null;
  const prunedPaths = dryRun ? 0 : await pruneMetadata(parts.services, isOver);
  return { ...report, outcome, after, kept, expiredPins, prunedPaths };
}

const noop = (): void => undefined;
