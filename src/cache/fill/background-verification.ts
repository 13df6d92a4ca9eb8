import type { NarWithPaths } from '../../database/metadata-store.ts';
import { isCompression } from '../../nar/decompress.ts';
import { createSha256 } from '../../nar/sha256.ts';
import type { ByteStream } from '../../stream/byte-stream.ts';
import { streamOf } from '../../stream/byte-stream.ts';
import { BodyMismatchError } from '../errors.ts';
import type { CacheServices } from '../services.ts';
import { assertNar } from './body-verifier.ts';
import { storeNarInfos } from './commit.ts';

/**
 * Checks the NarHash of bodies that were stored by their FileHash only (xz and bzip2 decode slower than they
 * arrive). FileHash is outside what is signed: a mismatch removes the body and quarantines its key.
 */
export interface BackgroundVerification {
  /** Verifies the stored NAR when those before it are done. */
  schedule(key: string): void;
  /** Schedules every NAR that a process before this one left unverified. */
  resume(): Promise<void>;
  /** Verifies the stored NAR now and makes it present, or removes it. */
  adopt(key: string): Promise<void>;
  /** Removes the NAR and its narinfos from the store. */
  remove(key: string): Promise<void>;
  /** Resolves when nothing is scheduled. */
  idle(): Promise<void>;
  /** Leaves the body that is being verified; it and the rest are found by `resume` next time. */
  stop(): void;
}

const PAGE = 64;

export function createBackgroundVerification(
  services: CacheServices,
  onPathsChanged: (hashes: readonly string[]) => void,
  onRemoved: (key: string) => void,
): BackgroundVerification {
  const { storage, metadata, platform, settings } = services;
  const queue = new Set<string>();
  let running: Promise<void> | null = null;
  const stopping = new AbortController();

  async function work(): Promise<void> {
    for (const key of queue) {
      if (stopping.signal.aborted) return;
      try {
        await verify(key);
      } catch (error) {
        if (stopping.signal.aborted) return;
        platform.metrics.count('snowcap_background_failures_total', { what: 'verification' });
        platform.logger.warn('A stored NAR could not be verified now', { key, error });
      }
      queue.delete(key);
    }
  }

  async function verify(key: string): Promise<void> {
    const named = await metadata.getNar(key);
    const [path] = named?.paths ?? [];
    if (named === null || path === undefined || named.nar.state === 'quarantined') return;
    const stored = await storage.get(key, { signal: stopping.signal });
    if (stored === null || stored.kind === 'unsatisfiable') return;
    const fileHash = createSha256();
    const body = stored.body.kind === 'bytes' ? streamOf(stored.body.bytes) : stored.body.stream;
    const wrong = await digest(named, hashing(body, fileHash));
    if (wrong !== null) {
      await quarantine(key, wrong);
      return;
    }
    if (await metadata.markVerified(key, named.nar.generation)) return;
    const present = { fileHash: fileHash.digest(), fileSize: stored.size };
    await storeNarInfos({ services, onPathsChanged }, key, present);
    await metadata.markPresent(key, { ...present, verification: 'nar', at: platform.clock.now() });
  }

  /** What is wrong with the body; null where it is the NAR that was signed. */
  async function digest({ nar, paths }: NarWithPaths, body: ByteStream): Promise<BodyMismatchError | null> {
    const [path] = paths;
    if (path === undefined || !isCompression(nar.compression)) return null;
    try {
      const limits = { maxOutput: path.narSize };
      assertNar({ key: nar.key, ...path }, await services.digestNar(body, nar.compression, limits));
      return null;
    } catch (error) {
      if (error instanceof BodyMismatchError) return error;
      if (error instanceof Error && error.name === 'DecompressionError') {
        return new BodyMismatchError('encoding', `${nar.key}: ${error.message}`, { cause: error });
      }
      throw error;
    }
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
    const hashes = (await metadata.getNar(key))?.paths.map((path) => path.hash) ?? [];
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
    schedule(key) {
      queue.add(key);
      start();
    },
    async resume() {
      if (settings.verify !== 'nar') return;
      let after = 0;
      for (;;) {
        const page = await metadata.listUnverified(after, PAGE);
        const last = page.at(-1);
        if (last === undefined || stopping.signal.aborted) return;
        for (const nar of page) queue.add(nar.key);
        after = last.id;
        start();
        await running;
      }
    },
    adopt: verify,
    remove,
    async idle() {
      while (running !== null) await running;
    },
    stop() {
      stopping.abort(new Error('This cache is shutting down'));
    },
  };
}

async function* hashing(
  stream: ByteStream,
  hash: ReturnType<typeof createSha256>,
): AsyncGenerator<Uint8Array, void, void> {
  for await (const chunk of stream) {
    hash.update(chunk);
    yield chunk;
  }
}
