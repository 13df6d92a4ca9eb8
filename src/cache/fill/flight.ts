import type { SpoolFile } from '../../spool/spool.ts';
import type { ByteStream } from '../../stream/byte-stream.ts';

/**
 * The last piece of a body that is held back until the whole was verified, in bytes: a client that was
 * told the length believes a body as soon as it has all of it (law 1).
 */
export const HOLD_BACK_BYTES: number = 64 * 1024;

/** The most bytes that a reader takes from the spool at once. */
const READ_BYTES = 128 * 1024;

/**
 * One body on its way in: written once, read by any number of readers from its first byte while it
 * grows. Readers see everything but the last piece; that one only after `verified`.
 *
 * Where the spool cannot take more (disk full), the flight goes on without: each chunk then waits until every
 * reader that is there has it. So it is from the first byte on where there is no spool: it has one reader, which
 * must be there before the first chunk.
 */
export class Flight {
  readonly #file: SpoolFile | null;
  readonly #release: () => void;
  /** Bytes of the whole body; null until it is known. */
  size: number | null;
  #written = 0;
  #spooled = 0;
  #state: 'growing' | 'verified' | 'failed' = 'growing';
  #failure: unknown;
  /** The newest chunk, so that readers who keep up need no read of the spool. */
  #newest: { readonly start: number; readonly bytes: Uint8Array } | null = null;
  #progress: PromiseWithResolvers<void> = Promise.withResolvers();
  readonly #readers = new Set<{ position: number }>();
  #finished = false;
  #spoolFault: Error | undefined;
  readonly #idle: () => void;

  /**
   * @param file the spool; null where there is none
   * @param size bytes of the whole body, null if not known yet
   * @param options.onUnread called whenever the last reader has left before the end
   * @param options.onDiscarded called once, when the spool's space is free again
   */
  constructor(
    file: SpoolFile | null,
    size: number | null,
    options: { readonly onUnread: () => void; readonly onDiscarded: () => void },
  ) {
    this.#file = file;
    this.size = size;
    this.#release = options.onDiscarded;
    this.#idle = options.onUnread;
  }

  /** Bytes that a reader may have now. */
  get readable(): number {
    if (this.#state === 'verified') return this.#written;
    const certain = this.size ?? this.#written;
    return Math.max(0, Math.min(this.#written, certain - HOLD_BACK_BYTES));
  }

  /** Bytes received so far. */
  get written(): number {
    return this.#written;
  }

  /** The first error of the spool; undefined while every byte is in it. */
  get spoolFault(): Error | undefined {
    return this.#spoolFault;
  }

  /** Whether a new reader could still have every byte. A failed flight is joinable: its readers get the failure. */
  get joinable(): boolean {
    return !this.#finished && (this.isSpooled || (this.#file === null && this.#written === 0));
  }

  /** Whether nobody reads it. */
  get isUnread(): boolean {
    return this.#readers.size === 0;
  }

  /** Whether every byte is kept, for any number of readers. */
  get isSpooled(): boolean {
    return this.#file !== null && this.#spoolFault === undefined;
  }

  /** Appends a chunk. Without a spool, resolves only when all readers have what came before. */
  async append(chunk: Uint8Array): Promise<void> {
    if (this.#file !== null && this.#spoolFault === undefined) {
      try {
        await this.#file.append(chunk);
        this.#spooled += chunk.length;
      } catch (error) {
        this.#spoolFault =
          error instanceof Error ? error : new Error('The spool is at fault', { cause: error });
        // What cannot be kept is worth its download only to those who read it.
        if (this.#readers.size === 0) this.#idle();
      }
    }
    if (!this.isSpooled) await this.#caughtUp();
    // Without a spool the piece held back must stay in memory beside the new chunk.
    const kept = this.isSpooled ? null : this.#unread();
    this.#newest =
      kept === null
        ? { start: this.#written, bytes: chunk }
        : { start: this.#written - kept.length, bytes: joined(kept, chunk) };
    this.#written += chunk.length;
    this.#wake();
  }

  /** Every byte is there and right: the last piece may go. */
  verified(): void {
    this.size = this.#written;
    this.#state = 'verified';
    this.#wake();
  }

  /** The body is not whole or not right: every reader gets the error. Returns whether it was not decided before. */
  fail(error: unknown): boolean {
    if (this.#state !== 'growing') return false;
    this.#state = 'failed';
    this.#failure = error;
    this.#newest = null;
    this.#wake();
    return true;
  }

  /** Resolves when the whole is verified; rejects with the failure. */
  async whole(): Promise<void> {
    while (this.#state === 'growing') await this.#progress.promise;
    if (this.#state === 'failed') throw this.#failure;
  }

  /** No reader comes any more: the spool is freed when the present ones have left. */
  finish(): void {
    this.#finished = true;
    if (this.#readers.size === 0) this.#discard();
  }

  /**
   * A reader of the bytes from `start` to `end` (both inclusive; null is the end of the body). It counts
   * as a reader from this call on, so it must be read or left.
   */
  read(start: number, end: number | null): ByteStream {
    const reader = { position: start };
    this.#readers.add(reader);
    const leave = (): void => {
      if (!this.#readers.delete(reader)) return;
      this.#wake();
      if (this.#readers.size > 0) return;
      if (this.#finished) this.#discard();
      else if (this.#state === 'growing') this.#idle();
    };
    const next = async (): Promise<IteratorResult<Uint8Array, undefined>> => {
      try {
        const chunk = await this.#next(reader.position, end);
        if (chunk === null) {
          leave();
          return { done: true, value: undefined };
        }
        reader.position += chunk.length;
        if (!this.isSpooled) this.#wake();
        return { done: false, value: chunk };
      } catch (error) {
        leave();
        throw error;
      }
    };
    const iterator = {
      next,
      return(): Promise<IteratorResult<Uint8Array, undefined>> {
        leave();
        return Promise.resolve({ done: true, value: undefined });
      },
    };
    return { [Symbol.asyncIterator]: () => iterator };
  }

  async #next(position: number, end: number | null): Promise<Uint8Array | null> {
    for (;;) {
      if (end !== null && position > end) return null;
      if (this.#state === 'failed') throw this.#failure;
      const until = Math.min(this.readable, end === null ? Infinity : end + 1);
      if (position < until) return await this.#take(position, until);
      if (this.#state === 'verified') return null;
      await this.#progress.promise;
    }
  }

  async #take(position: number, until: number): Promise<Uint8Array> {
    const newest = this.#newest;
    if (newest !== null && position >= newest.start) {
      return newest.bytes.subarray(position - newest.start, until - newest.start);
    }
    const available = Math.min(until, this.#spooled) - position;
    if (this.#file === null || available <= 0) {
      throw this.#spoolFault ?? new Error(`Byte ${position} of the body is in no spool`);
    }
    return await this.#file.read(position, Math.min(available, READ_BYTES));
  }

  /** Waits until every reader has all that it may have. */
  async #caughtUp(): Promise<void> {
    while (this.#state === 'growing' && [...this.#readers].some(({ position }) => position < this.readable)) {
      await this.#progress.promise;
    }
  }

  /** What was held back of the chunks before, and is in no spool. */
  #unread(): Uint8Array | null {
    const newest = this.#newest;
    if (newest === null) return null;
    const from = Math.max(newest.start, Math.min(this.readable, this.#written));
    return newest.bytes.subarray(from - newest.start);
  }

  #wake(): void {
    const { resolve } = this.#progress;
    this.#progress = Promise.withResolvers();
    resolve();
  }

  #discard(): void {
    this.#newest = null;
    const discarded = this.#file?.discard() ?? Promise.resolve();
    discarded.catch(() => undefined).finally(this.#release);
  }
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}
