import type { BlobInfo } from '../../storage/blob-store.ts';
import { createBucketTrust, createBucketTrustMemory } from '../bucket-trust.ts';
import { createBackgroundVerification } from '../fill/background-verification.ts';
import { VERIFY_MARK } from '../marks.ts';
import { rootKeys } from '../root-keys.ts';
import type { CacheServices } from '../services.ts';
import { createStorageFaults } from '../storage-faults.ts';
import { createTurns } from '../turns.ts';
import { found, type VerifyContext } from './context.ts';
import { verifyNarObjects, verifyRootObjects } from './objects.ts';
import { createPace } from './pace.ts';
import { Findings, type FoundBefore, type VerifyReport } from './report.ts';
import { verifyRow } from './rows.ts';

export interface VerifyOptions {
  /** Put right what can be. @default false: only report it */
  readonly repair?: boolean;
  /** Remove narinfos of unknown paths that no trusted key vouches for, too. @default false: they are named */
  readonly removeUntrusted?: boolean;
  /** Read every body: FileHash, structure, NarHash. @default false */
  readonly content?: boolean;
  /** How long what nobody claims is left alone: a push uploads its NARs long before its narinfos. In milliseconds. @default a day */
  readonly graceMs?: number;
  /** Rows, objects and bodies that are looked at together. @default 8 */
  readonly concurrency?: number;
  /** Most bytes of bodies that are read in a second. @default no limit */
  readonly bytesPerSecond?: number | null;
  /** Begin anew, where an earlier run did not come to its end. */
  readonly restart?: boolean;
  readonly signal?: AbortSignal;
  /** Called after each page. */
  readonly onProgress?: (report: VerifyReport, phase: Phase) => void;
}

/** In this order: what storage has and the index has not is found when the rows are right. */
const PHASES = ['rows', 'narinfos', 'bodies', 'references', 'totals'] as const;
export type Phase = (typeof PHASES)[number];

/** What a run must have in common with one that it continues. */
interface Kind {
  /** As `BlobStore.description`: an index that was moved has the mark of another one. */
  readonly storage: string;
  readonly repair: boolean;
  readonly content: boolean;
  readonly removeUntrusted: boolean;
  readonly graceMs: number;
}

/** Kept as JSON. */
interface Watermark extends FoundBefore, Kind {
  readonly phase: Phase;
  /** An id or a key; null: from the start of the phase. */
  readonly after: string | null;
  readonly left: number;
  /** What was found when all rows were looked at. */
  readonly ofRows: FoundBefore;
}

const PAGE = 200;
const DAY_MS = 24 * 60 * 60 * 1000;

/**
 * Compares index, storage and content in both directions, and puts right what it may (`repair`). Runs beside instances
 * that serve: what changes while it looks is no finding. Ends early where the signal is aborted; the next run goes on
 * from there.
 *
 * @throws what the storage and the index throw; the next run goes on from there
 */
export async function verifyCache(
  services: CacheServices,
  options: VerifyOptions = {},
): Promise<VerifyReport> {
  const { repair = false, content = false, graceMs = DAY_MS, concurrency = 8, signal } = options;
  const { storage, upkeep, platform } = services;
  const kind: Kind = {
    storage: storage.description,
    repair,
    content,
    removeUntrusted: options.removeUntrusted === true,
    graceMs,
  };
  const begin = options.restart === true ? null : readWatermark(await upkeep.getMark(VERIFY_MARK), kind);
  const findings = new Findings(begin);
  let ofRows = begin?.ofRows ?? findings.sums();
  let left = begin?.left ?? 0;
  const now = platform.clock.now();
  const nobody = { exists: false, add: () => undefined };
  const noop = (): void => undefined;
  const context: VerifyContext = {
    services,
    verification: createBackgroundVerification(services, nobody, {
      onPathsChanged: noop,
      onRemoved: noop,
      onStored: noop,
    }),
    findings,
    repair,
    content,
    olderThan: now - graceMs,
    removeUntrusted: kind.removeUntrusted,
    get left() {
      return left;
    },
    leave() {
      left += 1;
    },
    faults: createStorageFaults(),
    turns: createTurns(concurrency),
    lockTurn: createTurns(1),
    pace: createPace(platform.clock, options.bytesPerSecond ?? null, signal),
    signal,
  };
  const reportOf = (finished: boolean): VerifyReport => findings.report({ finished, repair, content });

  /** After a page: what is done is done. @returns whether there is to be another */
  async function passed(phase: Phase, after: string): Promise<boolean> {
    if (phase === 'rows') ofRows = findings.sums();
    const mark: Watermark = { phase, after, ...kind, left, ofRows, ...findings.sums() };
    // If all of the storage is at fault by now, what was found last is no finding: the next run looks again.
    if (context.faults.inARow === 0) await upkeep.setMark(VERIFY_MARK, JSON.stringify(mark));
    options.onProgress?.(reportOf(false), phase);
    return signal?.aborted !== true;
  }

  const phases: Readonly<Record<Phase, (after: string | null) => Promise<boolean>>> = {
    async rows(after) {
      for (let last = Number(after ?? 0); ;) {
        const page = await upkeep.listNars(last, PAGE);
        const end = page.at(-1);
        if (end === undefined) return true;
        await Promise.all(page.map((nar) => context.turns.take(() => verifyRow(context, nar))));
        last = end.id;
        if (!(await passed('rows', String(last)))) return false;
      }
    },
    async narinfos(after) {
      const bucketTrust = createBucketTrust(services, createBucketTrustMemory());
      const adopting = { bucketIsTrusted: await bucketTrust.isCurrent(), allowUnsigned: false };
      return await inPages(rootKeys(storage, after ?? undefined), async (page, last) => {
        await verifyRootObjects(context, page, adopting);
        return await passed('narinfos', last);
      });
    },
    async bodies(after) {
      const objects = storage.list('nar/', after === null ? {} : { after });
      return await inPages(objects, async (page, last) => {
        await verifyNarObjects(context, page);
        return await passed('bodies', last);
      });
    },
    async references(after) {
      for (let last = Number(after ?? 0); ;) {
        const page = await upkeep.listDangling(last, PAGE);
        const end = page.at(-1);
        if (end === undefined) return true;
        for (const { storePath, missing, missingCount } of page) {
          const others = missingCount === 1 ? '' : ` and ${missingCount - 1} more`;
          await found(context, 'dangling reference', storePath, `it refers to ${missing}${others}`);
        }
        last = end.id;
        if (!(await passed('references', String(last)))) return false;
      }
    },
    async totals() {
      await verifyTotals(context);
      await verifyLeftovers(context, now - Math.max(graceMs, DAY_MS));
      return true;
    },
  };

  const first = begin === null ? 0 : PHASES.indexOf(begin.phase);
  try {
    for (const phase of PHASES.slice(first)) {
      if (signal?.aborted === true) return reportOf(false);
      if (!(await phases[phase](phase === begin?.phase ? begin.after : null))) return reportOf(false);
    }
  } catch (error) {
    // In the middle of a page, which the next run looks at again.
    if (signal?.aborted === true) return reportOf(false);
    throw error;
  }
  await upkeep.setMark(VERIFY_MARK, null);
  return reportOf(true);
}

/** Counters and rows are not read in one instant: what differs twice alike is a fault. */
async function verifyTotals(context: VerifyContext): Promise<void> {
  const { upkeep } = context.services;
  const differences: string[] = [];
  for (let look = 0; look < 2; look++) {
    const { counted, actual } = await upkeep.recountTotals({ repair: false });
    const bytes = actual.presentBytes - counted.presentBytes;
    const nars = actual.presentNars - counted.presentNars;
    if (bytes === 0 && nars === 0) return;
    differences.push(`the counters are ${bytes} bytes and ${nars} NARs short of the rows`);
  }
  const [detail = '', again] = differences;
  if (detail !== again) return;
  await found(context, 'wrong totals', 'size counters', detail, () => upkeep.recountTotals({ repair: true }));
}

/** @param olderThan milliseconds since the epoch: uploads of other processes, for which no grace is too long */
async function verifyLeftovers(context: VerifyContext, olderThan: number): Promise<void> {
  const { storage } = context.services;
  const { removed, freed } = await storage.sweep(olderThan, { dryRun: !context.repair });
  if (removed === 0) return;
  const detail = `${removed} left by interrupted writes, ${freed} bytes in all`;
  context.findings.add({ kind: 'unfinished writes', about: 'storage', detail, repaired: context.repair });
}

/** @param take does a page, and returns whether there is to be another @returns whether the end was reached */
async function inPages(
  blobs: AsyncIterable<BlobInfo>,
  take: (page: readonly BlobInfo[], last: string) => Promise<boolean>,
): Promise<boolean> {
  let page: BlobInfo[] = [];
  for await (const blob of blobs) {
    page.push(blob);
    if (page.length < PAGE) continue;
    if (!(await take(page, blob.key))) return false;
    page = [];
  }
  const last = page.at(-1);
  return last === undefined || (await take(page, last.key));
}

/**
 * Null where there is none, or where it is of another kind of run. A repair looks at the narinfos again, and counts anew
 * what it finds from there on: those that have come since may claim bodies that nobody else does.
 */
function readWatermark(text: string | null, kind: Kind): Watermark | null {
  const mark = text === null ? null : parsedMark(text);
  if (mark === null || KIND.some((name) => mark[name] !== kind[name])) return null;
  const isPast = PHASES.indexOf(mark.phase) > PHASES.indexOf('narinfos');
  return kind.repair && isPast ? { ...mark, ...mark.ofRows, phase: 'narinfos', after: null, left: 0 } : mark;
}

const KIND = ['storage', 'repair', 'content', 'removeUntrusted', 'graceMs'] as const;

function parsedMark(text: string): Watermark | null {
  let mark: unknown;
  try {
    mark = JSON.parse(text);
  } catch {
    return null;
  }
  return isWatermark(mark) ? mark : null;
}

function isWatermark(mark: unknown): mark is Watermark {
  if (typeof mark !== 'object' || mark === null) return false;
  const has = (name: keyof Watermark, type: string): boolean => typeof Reflect.get(mark, name) === type;
  return (
    PHASES.some((phase) => phase === Reflect.get(mark, 'phase')) &&
    (has('after', 'string') || Reflect.get(mark, 'after') === null) &&
    (['left', 'remaining'] as const).every((name) => has(name, 'number')) &&
    (['checked', 'found', 'ofRows'] as const).every((name) => has(name, 'object'))
  );
}
