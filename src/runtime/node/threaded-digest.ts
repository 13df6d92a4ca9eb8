import { Worker } from 'node:worker_threads';
import {
  type Compression,
  type DecompressLimits,
  DecompressionError,
  type DecompressionReason,
} from '../../nar/decompress.ts';
import type { NarDigest } from '../../nar/digest.ts';
import { type ByteStream, leave } from '../../stream/byte-stream.ts';

export type ToThread =
  | { readonly kind: 'begin'; readonly compression: Compression; readonly limits: DecompressLimits }
  | { readonly kind: 'chunk'; readonly bytes: Uint8Array }
  | { readonly kind: 'end' };

export type FromThread =
  | { readonly kind: 'more' }
  | { readonly kind: 'digest'; readonly digest: NarDigest }
  /** The fields of a DecompressionError, of which a message between threads would keep the text only. */
  | {
      readonly kind: 'undecodable';
      readonly compression: Compression;
      readonly reason: DecompressionReason;
      readonly why: string;
    }
  | { readonly kind: 'error'; readonly name: string; readonly message: string };

/** Digests NARs on a thread of its own, so that answers do not wait while xz is decoded. */
export interface ThreadedDigest {
  /**
   * The digest of an encoded NAR, when those asked for before are done. Consumes the stream, or leaves it.
   *
   * @throws DecompressionError as `decompress` does, what the stream throws as it is, and Error where the thread ends
   */
  digestNar(stream: ByteStream, compression: Compression, limits: DecompressLimits): Promise<NarDigest>;
  close(): Promise<void>;
}

/** The thread costs memory: it ends when it was idle for this many milliseconds. */
const IDLE_MS = 30_000;

/** @param startWorker starts the thread: called at the first NAR, and again after the thread has ended */
export function createThreadedDigest(startWorker: () => Worker = startDigestWorker): ThreadedDigest {
  let thread: DigestThread | null = null;
  let idle: NodeJS.Timeout | undefined;
  let last: Promise<unknown> = Promise.resolve();

  function running(): DigestThread {
    clearTimeout(idle);
    if (thread === null || thread.ended) thread = new DigestThread(startWorker());
    return thread;
  }

  async function end(): Promise<void> {
    clearTimeout(idle);
    const ending = thread;
    thread = null;
    await ending?.terminate();
  }

  async function digest(
    stream: ByteStream,
    compression: Compression,
    limits: DecompressLimits,
  ): Promise<NarDigest> {
    try {
      const asked = running();
      await asked.ask({ kind: 'begin', compression, limits });
      for await (const bytes of stream) await asked.ask({ kind: 'chunk', bytes });
      const answer = await asked.ask({ kind: 'end' });
      if (answer.kind !== 'digest') throw new Error('The digest thread gave no digest');
      return answer.digest;
    } finally {
      idle = setTimeout(() => void end(), IDLE_MS).unref();
      await leave(stream).catch(() => undefined);
    }
  }

  return {
    digestNar(stream, compression, limits) {
      const turn = last.then(() => digest(stream, compression, limits));
      last = turn.catch(() => undefined);
      return turn;
    },
    close: end,
  };
}

function startDigestWorker(): Worker {
  return new Worker(new URL('./digest-thread.ts', import.meta.url));
}

/**
 * One worker, asked one thing at a time. It is listened to as long as it lives: an error between two asks would
 * otherwise be nobody's and end the process, and an ask after its end would never be answered.
 */
class DigestThread {
  readonly #worker: Worker;
  #end: Error | null = null;
  #asked: PromiseWithResolvers<FromThread> | null = null;

  constructor(worker: Worker) {
    this.#worker = worker;
    worker.unref();
    worker.on('message', (answer: FromThread) => this.#settle(answer));
    worker.on('messageerror', (error) => {
      this.#fail(error);
      void this.terminate();
    });
    worker.on('error', (error) => this.#fail(error));
    worker.on('exit', () => this.#fail(new Error('The digest thread ended')));
  }

  /** Whether it answers no more. */
  get ended(): boolean {
    return this.#end !== null;
  }

  /** One message and its answer. Rejects with the error of the thread, or where the thread ends or has ended. */
  async ask(message: ToThread): Promise<FromThread> {
    if (this.#end !== null) throw this.#end;
    const asked = Promise.withResolvers<FromThread>();
    this.#asked = asked;
    this.#worker.postMessage(message);
    const answer = await asked.promise;
    switch (answer.kind) {
      case 'undecodable':
        throw new DecompressionError(answer.compression, answer.why, { reason: answer.reason });
      case 'error':
        throw Object.assign(new Error(answer.message), { name: answer.name });
      default:
        return answer;
    }
  }

  async terminate(): Promise<void> {
    await this.#worker.terminate();
  }

  #settle(answer: FromThread): void {
    this.#asked?.resolve(answer);
    this.#asked = null;
  }

  #fail(error: unknown): void {
    this.#end ??= error instanceof Error ? error : new Error('The digest thread failed', { cause: error });
    this.#asked?.reject(this.#end);
    this.#asked = null;
  }
}
