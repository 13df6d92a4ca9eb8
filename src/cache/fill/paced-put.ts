import { ChunkHandoff } from '../../nar/chunk-handoff.ts';
import type { Platform } from '../../platform.ts';
import { type BlobStore, type PutResult, StorageError } from '../../storage/blob-store.ts';
import { NAR_PUT } from './nar-put.ts';

/** A store that has taken nothing for so long is given up, in milliseconds: whoever reads the body waits for it. */
const STALL_MS = 60_000;
/** How long the runtime is kept for a store that was stopped, in milliseconds: what it began costs until it is removed. */
const STOPPING_MS = 20_000;

export interface PacedPutOptions {
  readonly storage: Pick<BlobStore, 'put'>;
  readonly platform: Pick<Platform, 'clock' | 'defer'>;
  readonly key: string;
  /** Bytes of the whole body; null where unknown. */
  readonly size: number | null;
  /** Called once, when the store is done with it, well or not: what it held is free. */
  readonly onOver: () => void;
  /** Called once where the store failed by itself: nothing is stored, and the pushes pass from then on. */
  readonly onFault: (fault: Error) => void;
}

/**
 * A body on its way into the store while it comes in, without a spool: as fast as the store takes it. The store's
 * source ends only in `finish`, when the whole was verified, and throws in every other case, so that nothing of a wrong
 * body becomes visible (law 2). The last chunk is held back until then as well: also a store that counts bytes cannot
 * believe that it has the whole.
 */
export class PacedPut {
  readonly #options: PacedPutOptions;
  readonly #handoff = new ChunkHandoff();
  readonly #result: Promise<PutResult>;
  /** Aborted with the reason why the store shall stop. */
  readonly #stop = new AbortController();
  readonly #over = new AbortController();
  /** Resolved when the store has given back what it held, however long that took. */
  readonly #ended = Promise.withResolvers<void>();
  #held: Uint8Array | null = null;
  #fault: Error | undefined;
  /** Chunks that the store has taken, and whether it is waited for now. */
  #taken = 0;
  #waiting = false;

  constructor(options: PacedPutOptions) {
    this.#options = options;
    this.#result = this.#put();
    this.#result.catch(() => undefined);
    void this.#watch();
  }

  /** Why nothing will be stored; undefined while it may be. */
  get fault(): Error | undefined {
    return this.#fault;
  }

  /** Hands over a chunk. Resolves when the store has used up the one before it; never rejects. */
  async push(chunk: Uint8Array): Promise<void> {
    const before = this.#held;
    this.#held = chunk;
    if (before !== null) await this.#hand(before);
  }

  /**
   * The body is whole and verified: the store may have its end.
   *
   * @throws StorageError, or what `abort` was called with
   */
  async finish(): Promise<PutResult> {
    if (this.#held !== null) await this.#hand(this.#held);
    this.#held = null;
    this.#waiting = true;
    this.#handoff.end();
    return await this.#result;
  }

  /** Nothing of it is to be stored. No effect once the store is done. */
  abort(reason: Error): void {
    if (this.#over.signal.aborted || this.#stop.signal.aborted) return;
    this.#fault ??= reason;
    this.#handoff.fail(reason);
    this.#stop.abort(reason);
    this.#options.platform.defer('stop a put', this.#stopped());
  }

  async #hand(chunk: Uint8Array): Promise<void> {
    if (this.#over.signal.aborted) return;
    this.#waiting = true;
    await this.#handoff.push(chunk);
    this.#waiting = false;
    this.#taken += 1;
  }

  async #put(): Promise<PutResult> {
    const { storage, key, size, onOver, onFault } = this.#options;
    const stopped = Promise.withResolvers<never>();
    const { signal } = this.#stop;
    // A store that hangs may not mind its signal either.
    signal.addEventListener('abort', () => stopped.reject(signal.reason), { once: true });
    const stream = this.#handoff;
    const source = { kind: 'stream' as const, stream, ...(size === null ? {} : { size }) };
    // Async, so that a driver that throws at once is like one whose promise is rejected.
    const put = (async () => await storage.put(key, source, { ...NAR_PUT, signal }))();
    try {
      return await Promise.race([put, stopped.promise]);
    } catch (error) {
      const own = this.#fault === undefined;
      this.#fault ??=
        error instanceof Error ? error : new StorageError(`Cannot store ${key}`, { cause: error });
      if (own) onFault(this.#fault);
      throw this.#fault;
    } finally {
      this.#held = null;
      this.#over.abort();
      // Also where it met an object that is there already, and did not want the rest.
      this.#handoff.fail(new StorageError(`The put of ${key} is over`));
      // What was stopped holds its memory until it has noticed.
      void put.then(onOver, onOver).finally(this.#ended.resolve);
    }
  }

  /** Resolves when the store has ended what it began, or does not come to it. */
  async #stopped(): Promise<void> {
    const patience = new AbortController();
    const enough = this.#options.platform.clock.sleep(STOPPING_MS, patience.signal);
    await Promise.race([this.#ended.promise, enough]);
    patience.abort();
    // Aborted by the line above.
    await enough.catch(() => undefined);
  }

  async #watch(): Promise<void> {
    const { clock } = this.#options.platform;
    for (;;) {
      const { taken, waiting } = { taken: this.#taken, waiting: this.#waiting };
      const slept = await clock.sleep(STALL_MS, this.#over.signal).then(
        () => true,
        () => false,
      );
      if (!slept) return;
      if (!waiting || !this.#waiting || taken !== this.#taken) continue;
      const { key, onFault } = this.#options;
      const fault = new StorageError(`The storage has taken nothing of ${key} for ${STALL_MS} ms`);
      this.abort(fault);
      onFault(fault);
      return;
    }
  }
}
