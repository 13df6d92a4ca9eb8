import type { PathRecord, PathWithNar } from '../database/metadata-store.ts';
import { judgeRecorded } from './find-path.ts';
import { render } from './render.ts';
import type { CacheServices } from './services.ts';
import { withOwnSignatures } from './sign.ts';
import { storeNarInfoOfPresent } from './store-nar-info.ts';
import { sameBytes, storedNarInfo } from './stored-bytes.ts';
import { isStillJustified, unsignedUpstreamsOf } from './trust.ts';
import { createTurns } from './turns.ts';
import { StorageError } from '../storage/blob-store.ts';
import { keyNameOf } from '../nix/signing-key.ts';

export interface ResignOptions {
  /** Names of keys whose signatures are to go. None of a key that signs, or is trusted. */
  readonly drop?: readonly string[];
  /** Only count what would change. */
  readonly dryRun?: boolean;
  /** Paths that are looked at together. @default 16 */
  readonly concurrency?: number;
  readonly signal?: AbortSignal;
  /** Called after each page. */
  readonly onProgress?: (report: ResignReport) => void;
}

/** Numbers of paths. */
export interface ResignReport {
  readonly paths: number;
  /** Those whose signatures were changed in the index. */
  readonly resigned: number;
  /** Those whose narinfo was written into the bucket. */
  readonly narInfos: number;
  /** Those that nothing trusted justifies: they are not served, and not signed. */
  readonly untrusted: number;
  /** Those that somebody else kept changing meanwhile: run again. */
  readonly contended: number;
}

const PAGE = 200;
/** How often a path is tried that somebody else changes at the same time. */
const ATTEMPTS = 5;

/** A key that must not be dropped, as it signs or is trusted. */
export class KeyInUseError extends Error {
  override readonly name = 'KeyInUseError';
}

/**
 * Gives every path the signatures of all keys that sign today, in the index and in the narinfo of the bucket. Paths are
 * signed when they are recorded: a key that was added since reaches older ones only so. Upstreams' signatures stay.
 * Nothing is kept between runs: what is done already costs a read, so one that was interrupted is run again.
 *
 * @throws KeyInUseError, what storage and index throw, and the signal's reason
 */
export async function resign(services: CacheServices, options: ResignOptions = {}): Promise<ResignReport> {
  const { metadata, platform } = services;
  const { concurrency = 16, signal, onProgress } = options;
  const drop = new Set(options.drop);
  refuseKeysInUse(services, drop);
  const dryRun = options.dryRun === true;
  const counts = { paths: 0, resigned: 0, narInfos: 0, untrusted: 0, contended: 0 };
  const unsigned = unsignedUpstreamsOf(services);
  const turns = createTurns(concurrency);

  async function resignPath(listed: PathWithNar): Promise<void> {
    counts.paths += 1;
    let resigned = false;
    let written = false;
    let current: PathWithNar | null = listed;
    for (let attempt = 0; attempt < ATTEMPTS && current !== null; attempt++) {
      signal?.throwIfAborted();
      const next = await renewed(current);
      if (next.changed && !dryRun) {
        const { hash, revision }: PathRecord = current.path;
        if (!(await metadata.rejustifyPath(hash, revision, next.path))) {
          current = await metadata.getPath(hash);
          continue;
        }
      }
      resigned ||= next.changed;
      const wrote: boolean = next.trusted && (await bringNarInfo({ path: next.path, nar: current.nar }));
      written ||= wrote;
      // Who changed the path meanwhile may have written its narinfo before us: then ours is the older one.
      const after: PathWithNar | null =
        wrote && !dryRun ? await metadata.getPath(next.path.hash) : { path: next.path, nar: current.nar };
      if (after === null || after.path.revision === next.path.revision) {
        if (resigned) counts.resigned += 1;
        if (written) counts.narInfos += 1;
        if (!next.trusted) counts.untrusted += 1;
        return;
      }
      current = after;
    }
    if (current !== null) counts.contended += 1;
  }

  /** The path with the signatures that it should have. */
  async function renewed({ path }: PathWithNar): Promise<Renewed> {
    const judgement = isStillJustified(path, services.trustedKeys, unsigned)
      ? { trusted: true as const, justification: path.justification }
      : await judgeRecorded(services, path, unsigned);
    const signatures = await signaturesOf(services, path, drop, judgement.trusted);
    const justification = judgement.trusted ? judgement.justification : path.justification;
    const changed = !sameTexts(signatures, path.signatures) || justification !== path.justification;
    const revision = changed ? path.revision + 1 : path.revision;
    return { path: { ...path, signatures, justification, revision }, changed, trusted: judgement.trusted };
  }

  /** @returns whether the narinfo of the bucket is written, or with `dryRun` would be */
  async function bringNarInfo(known: PathWithNar): Promise<boolean> {
    const { storage } = services;
    if (known.nar.state !== 'present') return false;
    const stored = await storedNarInfo(storage, known.path.hash).catch((error: unknown) => {
      // One that cannot be read is written anew, which fails as well where it is the storage that is at fault.
      if (!dryRun && error instanceof StorageError) return new Uint8Array();
      throw error;
    });
    if (sameBytes(stored, render(known).bytes)) return false;
    if (stored === null && (await storage.head(known.nar.key)) === null) return false;
    if (!dryRun) {
      await platform.checkpoint?.('resign:store-narinfo');
      await storeNarInfoOfPresent(services, known);
    }
    return true;
  }

  for (let after = 0; ;) {
    const page = await metadata.listPaths(after, PAGE);
    const end = page.at(-1);
    if (end === undefined) return { ...counts };
    await Promise.all(page.map((known) => turns.take(() => resignPath(known))));
    after = end.path.id;
    onProgress?.({ ...counts });
    // Other work goes first: this may walk over a million rows.
    await platform.clock.sleep(0);
  }
}

interface Renewed {
  readonly path: PathRecord;
  readonly changed: boolean;
  /** Whether it may be served. */
  readonly trusted: boolean;
}

/** @param sign whether our own signatures are renewed; else those that are there stay */
async function signaturesOf(
  { signers }: Pick<CacheServices, 'signers'>,
  path: PathRecord,
  drop: ReadonlySet<string>,
  sign: boolean,
): Promise<readonly string[]> {
  const kept = path.signatures.filter((signature) => !drop.has(keyNameOf(signature)));
  if (!sign) return kept;
  const own = new Set(signers.map(({ publicKey }) => publicKey.name));
  const foreign = kept.filter((signature) => !own.has(keyNameOf(signature)));
  return await withOwnSignatures({ ...path, signatures: foreign }, signers);
}

function refuseKeysInUse({ signers, trustedKeys }: CacheServices, drop: ReadonlySet<string>): void {
  for (const name of drop) {
    if (signers.some(({ publicKey }) => publicKey.name === name)) {
      throw new KeyInUseError(
        `Cannot drop the signatures of ${JSON.stringify(name)}: it signs still; take it out of SNOWCAP_SECRET_KEY first`,
      );
    }
    if ([...trustedKeys.values()].some((key) => key.name === name)) {
      throw new KeyInUseError(
        `Cannot drop the signatures of ${JSON.stringify(name)}: it is trusted; take it out of SNOWCAP_TRUSTED_PUBLIC_KEYS first`,
      );
    }
  }
}

function sameTexts(left: readonly string[], right: readonly string[]): boolean {
  return left.length === right.length && left.every((text, at) => text === right[at]);
}
