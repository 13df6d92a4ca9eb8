import { ALL_PATHS_OF_NAR, type NarWithPaths } from '../../database/metadata-store.ts';
import { isCompression } from '../../nar/decompress.ts';
import { createSha256 } from '../../nar/sha256.ts';
import type { BlobInfo } from '../../storage/blob-store.ts';
import { leave, streamOf } from '../../stream/byte-stream.ts';
import { tracedAlone } from '../../telemetry/tracing.ts';
import type { BodyMismatchError } from '../errors.ts';
import type { Schedule } from '../schedule.ts';
import type { CacheServices } from '../services.ts';
import { storeNarInfos } from './commit.ts';
import { hashing, judgeBody, type Verdict } from './verdict.ts';

/**
 * Checks the NarHash of bodies that were stored by their FileHash only (xz and bzip2 decode slower than they
 * arrive), and of those that the index does not call present. FileHash is outside what is signed: a mismatch removes
 * the body and quarantines its key. A body that cannot be decoded here, but may be right, stays as it is.
 */
export interface BackgroundVerification {
  /**
   * Has the stored NAR verified, and made present, or removed: handed over where the platform takes such work; else,
   * in a process that lives on, when those before it are done, one at a time; else declined.
   *
   * @param onFault called where it could not be verified now
   */
  schedule(key: string, onFault?: () => void): void;
  /** Verifies the stored NAR now. @throws what the storage, the index and the digest throw */
  verify(key: string): Promise<Verification>;
  /** Schedules every NAR that a process before this one left unverified. */
  resume(): Promise<void>;
  /** Removes the NAR and its narinfos from the store. */
  remove(key: string): Promise<void>;
  /** Resolves when nothing is scheduled. */
  idle(): Promise<void>;
  /** Leaves the body that is being verified; it and the rest are found by `resume` next time. */
  stop(): void;
}

export interface VerificationEvents {
  /** The narinfos of these store-path hashes changed. */
  readonly onPathsChanged: (hashes: readonly string[]) => void;
  /** The body of this key was removed. */
  readonly onRemoved: (key: string) => void;
  /** A body of so many bytes counts from now on. */
  readonly onStored: (bytes: number) => void;
}

export type Verification =
  /** It is right, and recorded as such. */
  | 'verified'
  /** It was wrong, and is removed. */
  | 'removed'
  /** There is nothing to verify, or it cannot be verified here. */
  | 'nothing'
  /** Another body was stored meanwhile: it is to be verified in its turn. */
  | 'changed';

const PAGE = 64;
const noop = (): void => undefined;

export function createBackgroundVerification(
  services: CacheServices,
  handOver: Schedule,
  { onPathsChanged, onRemoved, onStored }: VerificationEvents,
): BackgroundVerification {
  const { storage, metadata, platform, settings } = services;
  /** In order; with each key what to call where it cannot be verified. */
  const queue = new Map<string, () => void>();
  let running: Promise<void> | null = null;
  const stopping = new AbortController();

  async function work(): Promise<void> {
    for (const [key, onFault] of queue) {
      if (stopping.signal.aborted) return;
      // First: what is scheduled from here on may be about another body than the one that is read now.
      queue.delete(key);
      try {
        const about = { 'snowcap.key': key };
        const outcome = await tracedAlone(platform.tracer, 'verify stored NAR', about, () => verify(key));
        if (outcome === 'changed') queue.set(key, noop);
      } catch (error) {
        if (stopping.signal.aborted) return;
        platform.metrics.count('snowcap_background_failures_total', { what: 'verification' });
        platform.logger.warn('A stored NAR could not be verified now', { key, error });
        onFault();
      }
    }
  }

  async function verify(key: string): Promise<Verification> {
    const named = await metadata.getNar(key);
    const [path] = named?.paths ?? [];
    if (named === null || path === undefined || named.nar.state === 'quarantined') return 'nothing';
    const { compression } = named.nar;
    if (!isCompression(compression)) {
      platform.logger.warn('A stored NAR cannot be verified: its compression is unknown', {
        key,
        compression,
      });
      return 'nothing';
    }
    const stored = await storage.get(key, { signal: stopping.signal });
    if (stored === null || stored.kind === 'unsatisfiable') return 'nothing';
    const body = stored.body.kind === 'bytes' ? streamOf(stored.body.bytes) : stored.body.stream;
    const fileHash = createSha256();
    let verdict: Verdict;
    try {
      verdict = await judgeBody(services, { key, ...path }, compression, hashing(body, fileHash));
    } finally {
      // What reads it may have failed before its first chunk.
      await leave(body);
    }
    switch (verdict.kind) {
      case 'wrong':
        await quarantine(key, verdict.error);
        return 'removed';
      case 'unknown':
        platform.logger.warn('A stored NAR cannot be verified here', { key, error: verdict.error });
        return 'nothing';
      case 'right':
        return await record(named, stored, fileHash.digest());
    }
  }

  /** The body was right when it was read, which may be long ago: what holds by now decides what is recorded. */
  async function record({ nar }: NarWithPaths, read: BlobInfo, fileHash: string): Promise<Verification> {
    const { key } = nar;
    if (await metadata.markVerified(key, nar.generation)) return 'verified';
    const now = (await metadata.getNar(key))?.nar;
    if (now === undefined || now.state === 'quarantined') return 'nothing';
    if (now.generation !== nar.generation) {
      // Stored anew, and maybe removed again: another body than the one that was read.
      return now.state !== 'present' || now.verification !== 'nar' ? 'changed' : 'verified';
    }
    const blob = await storage.head(key);
    if (blob === null || blob.size !== read.size) return 'nothing';
    const present = { fileHash, fileSize: read.size };
    await storeNarInfos({ services, onPathsChanged }, key, present);
    await metadata.markPresent(key, { ...present, verification: 'nar', at: platform.clock.now() });
    onStored(present.fileSize);
    return 'verified';
  }

  async function quarantine(key: string, wrong: BodyMismatchError): Promise<void> {
    platform.metrics.count('snowcap_verification_failures_total', { reason: wrong.reason });
    platform.logger.error('A stored NAR is not what was signed: it was removed', { key, error: wrong });
    // The store first: hits ask no index. Again afterwards: a fill may have come between.
    await remove(key);
    await metadata.markQuarantined(key, wrong.message);
    await remove(key);
  }

  async function remove(key: string): Promise<void> {
    const hashes = (await metadata.getNar(key, ALL_PATHS_OF_NAR))?.paths.map((path) => path.hash) ?? [];
    await storage.delete(hashes.flatMap((hash) => [`${hash}.narinfo`, `${hash}.ls`]));
    await storage.delete([key]);
    onRemoved(key);
    onPathsChanged(hashes);
  }

  function start(): void {
    if (stopping.signal.aborted || running !== null || queue.size === 0) return;
    running = work().finally(() => {
      running = null;
      start();
    });
  }

  return {
    schedule(key, onFault = noop) {
      if (handOver.exists) handOver.add({ kind: 'verify', key });
      else if (platform.fillsOutliveClients) {
        queue.set(key, onFault);
        start();
      }
    },
    verify,
    async resume() {
      if (settings.verify !== 'nar') return;
      let after = 0;
      for (;;) {
        const page = await metadata.listUnverified(after, PAGE);
        const last = page.at(-1);
        if (last === undefined || stopping.signal.aborted) return;
        for (const nar of page) queue.set(nar.key, noop);
        after = last.id;
        start();
        await running;
      }
    },
    remove,
    async idle() {
      while (running !== null) await running;
    },
    stop() {
      stopping.abort(new Error('This cache is shutting down'));
    },
  };
}
