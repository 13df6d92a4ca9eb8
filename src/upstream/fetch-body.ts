import { TransportError } from './transport.ts';

export interface FetchBodyOptions {
  /** The origin, for messages. */
  readonly peer: string;
  /** Bytes that were announced; null where none were, or where no body follows. */
  readonly length: number | null;
  /** Milliseconds that a read may take. */
  readonly idleTimeoutMs: number;
  /** Its reason is the error of the body. */
  readonly signal: AbortSignal;
  /** Called once, when nothing more comes. */
  over(): void;
}

type Reader = ReadableStreamBYOBReader;
type Result = IteratorResult<Uint8Array, undefined>;

/** Bytes asked for at once. By default workerd gives 4 KiB, which costs several times more. */
const READ_BYTES = 64 * 1024;

const END: Result = { done: true, value: undefined };

/** The body of a fetched answer: pulled, timed while it is pulled, and held against its announced length. */
export class FetchBody implements AsyncIterableIterator<Uint8Array, undefined> {
  readonly #reader: Reader | null;
  readonly #options: FetchBodyOptions;
  #read = 0;
  #over = false;
  #failure: { readonly error: unknown } | null = null;
  #pull: PromiseWithResolvers<Result> | null = null;

  constructor(body: ReadableStream<Uint8Array> | null, options: FetchBodyOptions) {
    this.#reader = body === null ? null : body.getReader({ mode: 'byob' });
    this.#options = options;
    if (options.signal.aborted) this.#onAbort();
    else options.signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  async next(): Promise<Result> {
    if (this.#failure !== null) throw this.#failure.error;
    if (this.#over || this.#reader === null) return this.#end();
    if (this.#pull !== null) throw new TypeError('A body cannot be read by two readers at once');
    const { peer, idleTimeoutMs } = this.#options;
    const pull = Promise.withResolvers<Result>();
    this.#pull = pull;
    const late = setTimeout(
      () => this.#fail(new TransportError('timeout', `The body of ${peer} stands still`)),
      idleTimeoutMs,
    );
    this.#reader.read(new Uint8Array(READ_BYTES)).then(
      (result) => this.#take(pull, result.value ?? null),
      (error: unknown) =>
        this.#fail(new TransportError('broken', `The connection to ${peer} broke`, { cause: error })),
    );
    try {
      return await pull.promise;
    } finally {
      clearTimeout(late);
      this.#pull = null;
    }
  }

  return(): Promise<Result> {
    this.#leave();
    this.#pull?.resolve(END);
    return Promise.resolve(END);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  readonly #onAbort = (): void => this.#fail(this.#options.signal.reason);

  #take(pull: PromiseWithResolvers<Result>, chunk: Uint8Array | null): void {
    if (this.#over) return;
    const { peer, length } = this.#options;
    this.#read += chunk?.length ?? 0;
    if (chunk === null || chunk.length === 0) {
      if (length === null || this.#read === length) pull.resolve(this.#end());
      else this.#fail(new TransportError('broken', `${peer} gave ${this.#read} of ${length} bytes`));
    } else if (length !== null && this.#read > length) {
      this.#fail(new TransportError('protocol', `${peer} gave more than ${length} bytes`));
    } else {
      // A small piece must not keep the whole buffer alive as long as it waits somewhere.
      pull.resolve({ done: false, value: chunk.length < READ_BYTES / 2 ? chunk.slice() : chunk });
    }
  }

  #end(): Result {
    if (!this.#over) {
      this.#over = true;
      this.#options.signal.removeEventListener('abort', this.#onAbort);
      this.#options.over();
    }
    return END;
  }

  #fail(error: unknown): void {
    if (this.#over) return;
    this.#failure = { error };
    this.#leave();
    this.#pull?.reject(error);
  }

  #leave(): void {
    if (this.#over) return;
    this.#end();
    this.#reader?.cancel().catch(() => undefined);
  }
}
