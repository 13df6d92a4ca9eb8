import { type Adopted, adoptStored, confirmUpstream } from './adopt-stored.ts';
import { createBucketTrust, createBucketTrustMemory } from './bucket-trust.ts';
import { REBUILDING_MARK, REINDEX_MARK } from './marks.ts';
import { formatPublicKey } from '../nix/signing-key.ts';
import { banMirrors } from './mirrors.ts';
import { restorePins } from './restore-pins.ts';
import { rootKeys } from './root-keys.ts';
import type { CacheServices } from './services.ts';
import { createStorageFaults } from './storage-faults.ts';
import { createTurns } from './turns.ts';

export interface ReindexOptions {
  /** As `AdoptOptions.allowUnsigned`. */
  readonly allowUnsigned?: boolean;
  /**
   * Ask the upstreams which paths they could give again, those count as pushed no longer, and what the closures of pins
   * refer to. @default true
   */
  readonly confirm?: boolean;
  /** Narinfos that are read at once. @default 16 */
  readonly concurrency?: number;
  /** Begin anew, where an earlier run did not come to its end. */
  readonly restart?: boolean;
  readonly signal?: AbortSignal;
  /** Called after each page. */
  readonly onProgress?: (report: ReindexReport) => void;
}

/** What was found in the bucket so far. Numbers of narinfos, but for the last three. */
export interface ReindexReport {
  readonly narInfos: number;
  readonly adopted: number;
  readonly known: number;
  readonly refused: number;
  readonly withoutNar: number;
  /** Paths that an upstream has too. */
  readonly confirmed: number;
  readonly pins: number;
  readonly bans: number;
  /** Bytes of the bodies that were adopted. */
  readonly bytes: number;
  /** Why the first of them were refused, or are without a NAR, by hash. */
  readonly reasons: readonly (readonly [hash: string, reason: string])[];
}

/** Kept as JSON. */
interface Watermark {
  /** What the run was told and trusts: with anything else, what was refused before might be taken. */
  readonly of: string;
  /** The last narinfo that it is done with. */
  readonly after: string;
  readonly counts: Counts;
}

type Counts = Omit<ReindexReport, 'pins' | 'bans' | 'reasons'>;

const NOTHING: Counts = {
  narInfos: 0,
  adopted: 0,
  known: 0,
  refused: 0,
  withoutNar: 0,
  confirmed: 0,
  bytes: 0,
};
const PAGE = 200;
const MOST_REASONS = 100;

/**
 * Rebuilds the index from the bucket: bans first, so that nothing banned comes back, then every narinfo whose NAR is
 * there, then pins. Done over an index that has paths already, it adds what is missing. Resumes where a run before it
 * ended that had the same bucket, options and keys, with what that had counted; until it is complete, nothing is evicted
 * (`REBUILDING_MARK`).
 *
 * @throws what the storage and the index throw, and the signal's reason; a later run goes on from there
 */
export async function reindex(services: CacheServices, options: ReindexOptions = {}): Promise<ReindexReport> {
  const { storage, upkeep, platform } = services;
  const { allowUnsigned = false, confirm = true, concurrency = 16, signal, onProgress } = options;
  const mirrored = { pins: 0, bans: 0 };
  const reasons: (readonly [string, string])[] = [];
  const of = JSON.stringify({
    storage: storage.description,
    allowUnsigned,
    confirm,
    keys: [
      ...services.trustedKeys.keys(),
      ...services.signers.map(({ publicKey }) => formatPublicKey(publicKey)),
    ],
  });
  const begin = options.restart === true ? null : readWatermark(await upkeep.getMark(REINDEX_MARK), of);
  const counts = { ...(begin?.counts ?? NOTHING) };
  const report = (): ReindexReport => ({ ...counts, ...mirrored, reasons: [...reasons] });
  const note = (hash: string, reason: string): void => {
    if (reasons.length < MOST_REASONS) reasons.push([hash, reason]);
  };

  await platform.checkpoint?.('reindex:begin');
  await upkeep.setMark(REBUILDING_MARK, String(platform.clock.now()));
  for await (const { narKey: _, ...ban } of banMirrors(storage)) {
    await upkeep.banPath(ban);
    mirrored.bans += 1;
  }
  const trust = createBucketTrust(services, createBucketTrustMemory());
  const adopting = { allowUnsigned, bucketIsTrusted: await trust.isCurrent() };
  const turns = createTurns(concurrency);
  const faults = createStorageFaults();

  /** A bad sector must not keep the rest from being taken. */
  async function adoptedOrFault(hash: string): Promise<Adopted> {
    try {
      const adopted = await adoptStored(services, hash, adopting);
      faults.none();
      return adopted;
    } catch (error) {
      const fault = faults.of(error);
      if (fault === null) throw error;
      return { kind: 'refused', reason: fault.message };
    }
  }

  async function adopt(hash: string): Promise<void> {
    signal?.throwIfAborted();
    const adopted = await adoptedOrFault(hash);
    counts.narInfos += 1;
    switch (adopted.kind) {
      case 'adopted':
      case 'known': {
        counts[adopted.kind] += 1;
        const { nar } = adopted.known;
        if (adopted.kind === 'adopted') counts.bytes += nar.fileSize ?? 0;
        if (!confirm || nar.source !== null) return;
        if (await confirmUpstream(services, adopted.known)) counts.confirmed += 1;
        return;
      }
      case 'refused':
        counts.refused += 1;
        note(hash, adopted.reason);
        return;
      case 'without NAR':
        counts.withoutNar += 1;
        note(hash, adopted.reason);
        return;
      case 'gone':
    }
  }

  async function adoptPage(page: readonly string[]): Promise<void> {
    await Promise.all(page.map((hash) => turns.take(() => adopt(hash))));
    const last = page.at(-1);
    // If all of the storage is at fault by now, the next run looks again at what was refused last.
    if (last !== undefined && faults.inARow === 0) {
      const mark: Watermark = { of, after: `${last}${SUFFIX}`, counts };
      await upkeep.setMark(REINDEX_MARK, JSON.stringify(mark));
    }
    onProgress?.(report());
  }

  let page: string[] = [];
  for await (const { key } of rootKeys(storage, begin?.after)) {
    if (!key.endsWith(SUFFIX)) continue;
    page.push(key.slice(0, -SUFFIX.length));
    if (page.length < PAGE) continue;
    await adoptPage(page);
    page = [];
  }
  await adoptPage(page);
  mirrored.pins = await restorePins(services, { lookUp: confirm, signal });
  // Nothing in the bucket is without a reason to be served any more.
  if (!adopting.bucketIsTrusted && counts.refused === 0) await trust.record('all');
  await platform.checkpoint?.('reindex:end');
  await upkeep.setMark(REINDEX_MARK, null);
  await upkeep.setMark(REBUILDING_MARK, null);
  const done = report();
  const { reasons: _, ...figures } = done;
  platform.logger.info('The index was rebuilt from the bucket', figures);
  return done;
}

const SUFFIX = '.narinfo';

/** Null where there is none, or where it is of another kind of run. */
function readWatermark(text: string | null, of: string): Watermark | null {
  let mark: unknown;
  try {
    mark = JSON.parse(text ?? 'null');
  } catch {
    return null;
  }
  return isWatermark(mark) && mark.of === of ? mark : null;
}

function isWatermark(mark: unknown): mark is Watermark {
  if (typeof mark !== 'object' || mark === null) return false;
  const counts: unknown = Reflect.get(mark, 'counts');
  return (
    typeof Reflect.get(mark, 'of') === 'string' &&
    typeof Reflect.get(mark, 'after') === 'string' &&
    typeof counts === 'object' &&
    counts !== null &&
    Object.keys(NOTHING).every((name) => typeof Reflect.get(counts, name) === 'number')
  );
}
