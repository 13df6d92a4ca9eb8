import type { Platform } from '../platform.ts';
import type { BlobInfo, BlobStore } from '../storage/blob-store.ts';
import { TRUSTED_KEYS_KEY } from './bucket-trust.ts';
import { type CopiedObject, type CopyContext, copyObject } from './copy-object.ts';
import { createStorageFaults } from './storage-faults.ts';
import { createTurns } from './turns.ts';
import { createPace } from './verify/pace.ts';

export interface CopyStorageOptions {
  readonly platform: Pick<Platform, 'clock' | 'checkpoint'>;
  /** Of the paths whose narinfos are copied. */
  readonly storeDir: string;
  /** Compare the hashes of what is there already, not only the sizes. @default false */
  readonly content?: boolean;
  /** Only count what would be copied. @default false */
  readonly dryRun?: boolean;
  /** Objects that are copied at once. @default 8 */
  readonly concurrency?: number;
  /** Most bytes that are read in a second. @default no limit */
  readonly bytesPerSecond?: number | null;
  readonly signal?: AbortSignal;
  /** Called after each object. */
  readonly onProgress?: (report: CopyStorageReport) => void;
}

/** Numbers of objects, but for the last two. */
export interface CopyStorageReport {
  /** Of the source, all that were looked at. */
  readonly objects: number;
  readonly copied: number;
  /** Those that the target had already. */
  readonly same: number;
  readonly vanished: number;
  readonly wrong: number;
  /** Those that could not be read or written. */
  readonly failed: number;
  /** Bytes that were copied. */
  readonly bytes: number;
  /** The first of those that were not copied. */
  readonly issues: readonly CopyIssue[];
}

export interface CopyIssue {
  readonly kind: 'vanished' | 'wrong' | 'failed';
  readonly key: string;
  readonly reason: string;
}

const PAGE = 1000;
const MOST_ISSUES = 100;
/** Bytes of memory for the puts that are under way. */
const PUT_MEMORY = 256 * 1024 * 1024;
const NARS = 'nar/';
/** Behind every key of a folder, as keys are compared. */
const BEHIND_NARS = `${NARS}${'~'.repeat(200)}`;

/**
 * Copies a storage into another one, beside an instance that uses the source: NARs first, then narinfos and all else, so
 * that the target is a binary cache at any time (law 8). What the target has already is passed over, so it is resumed by
 * being run again, and what came since is added. The source is not changed; of the target, only the note of what its
 * narinfos were checked against is removed, which would not hold for those that are added.
 *
 * @throws StorageError where one of the two cannot be listed, or ten objects in a row fail; and the signal's reason
 */
export async function copyStorage(
  from: BlobStore,
  to: BlobStore,
  options: CopyStorageOptions,
): Promise<CopyStorageReport> {
  const { platform, concurrency = 8, onProgress } = options;
  const dryRun = options.dryRun === true;
  /** Ends what is under way too: a storage that says nothing would be waited for again and again. */
  const broken = new AbortController();
  const signal =
    options.signal === undefined ? broken.signal : AbortSignal.any([options.signal, broken.signal]);
  const context: CopyContext = {
    from,
    to,
    storeDir: options.storeDir,
    platform,
    content: options.content === true,
    dryRun,
    pace: createPace(platform.clock, options.bytesPerSecond ?? null, signal),
    signal,
  };
  const counts = { objects: 0, copied: 0, same: 0, vanished: 0, wrong: 0, failed: 0, bytes: 0 };
  const issues: CopyIssue[] = [];
  const faults = createStorageFaults();
  const turns = createTurns(mostAtOnce(to, concurrency));
  const report = (): CopyStorageReport => ({ ...counts, issues: [...issues] });

  async function copy(blob: BlobInfo, there: BlobInfo | null): Promise<void> {
    signal.throwIfAborted();
    counts.objects += 1;
    try {
      note(blob.key, await copyObject(context, blob, there));
      faults.none();
    } catch (error) {
      const fault = faults.of(error);
      if (fault === null || signal.aborted) {
        broken.abort(error);
        throw signal.reason;
      }
      counts.failed += 1;
      addIssue({ kind: 'failed', key: blob.key, reason: fault.message });
    }
    onProgress?.(report());
  }

  function note(key: string, copied: CopiedObject): void {
    counts[copied.kind] += 1;
    if (copied.kind === 'copied') counts.bytes += copied.bytes;
    if (copied.kind === 'vanished') {
      addIssue({ kind: 'vanished', key, reason: 'it was removed from the source meanwhile' });
    }
    if (copied.kind === 'wrong') addIssue({ kind: 'wrong', key, reason: copied.reason });
  }

  function addIssue(issue: CopyIssue): void {
    if (issues.length < MOST_ISSUES) issues.push(issue);
  }

  async function copyAll(listed: Listed): Promise<void> {
    for await (const page of inPages(besideThose(listed(from), listed(to)))) {
      await allOf(page.map(({ blob, there }) => turns.take(() => copy(blob, there))));
      // Small files may be read without a wait: signals would not be heard.
      await platform.clock.sleep(0);
    }
  }

  /** Before anything is added, and afterwards: an instance that uses the target already may have noted it meanwhile. */
  async function forgetTrust(step: string): Promise<void> {
    if (dryRun) return;
    await platform.checkpoint?.(step);
    await to.delete([TRUSTED_KEYS_KEY]);
  }

  await forgetTrust('copy:begin');
  await copyAll((store) => store.list(NARS));
  await copyAll(besideNars);
  await forgetTrust('copy:end');
  return report();
}

/** A part of the objects of a store, in the order of their keys. */
type Listed = (store: BlobStore) => AsyncIterable<BlobInfo>;

/** An object, and what the target has under its key. */
interface Original {
  readonly blob: BlobInfo;
  readonly there: BlobInfo | null;
}

/** All that are no NARs, without walking through those. */
async function* besideNars(store: BlobStore): AsyncGenerator<BlobInfo, void, void> {
  let last: string | undefined;
  for (;;) {
    let met = false;
    for await (const blob of store.list('', last === undefined ? {} : { after: last })) {
      met = blob.key.startsWith(NARS);
      if (met) break;
      yield blob;
    }
    if (!met) return;
    last = BEHIND_NARS;
  }
}

/** Both come in the order of their keys, and are walked through once: to begin a listing may cost as much as all of it. */
async function* besideThose(
  blobs: AsyncIterable<BlobInfo>,
  others: AsyncIterable<BlobInfo>,
): AsyncGenerator<Original, void, void> {
  const iterator = others[Symbol.asyncIterator]();
  try {
    let other = await iterator.next();
    for await (const blob of blobs) {
      if (blob.key === TRUSTED_KEYS_KEY) continue;
      while (other.done !== true && other.value.key < blob.key) other = await iterator.next();
      yield { blob, there: other.done !== true && other.value.key === blob.key ? other.value : null };
    }
  } finally {
    await iterator.return?.();
  }
}

async function* inPages(originals: AsyncIterable<Original>): AsyncGenerator<readonly Original[], void, void> {
  let page: Original[] = [];
  for await (const original of originals) {
    page.push(original);
    if (page.length < PAGE) continue;
    yield page;
    page = [];
  }
  if (page.length > 0) yield page;
}

/** All have come to their ends before the first error is thrown: nobody writes on behind the caller's back. */
async function allOf(work: readonly Promise<void>[]): Promise<void> {
  const ends = await Promise.allSettled(work);
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
}

/** A put into S3 holds some parts of its body. */
function mostAtOnce({ putMemory }: BlobStore, wanted: number): number {
  return putMemory === undefined ? wanted : Math.max(1, Math.min(wanted, Math.floor(PUT_MEMORY / putMemory)));
}
