import type { Dispatcher } from 'undici';
import { TransportError } from './transport.ts';

/**
 * A body whose rest is at most this many bytes is read to its end when it is left: that costs less
 * than a new connection.
 */
const CHEAP_REST = 64 * 1024;

/** The connection is paused while this many bytes wait for the consumer. */
const HIGH_WATER = 128 * 1024;

type Phase = 'connecting' | 'waiting' | 'body' | 'over';

export interface ExchangeHead {
  readonly status: number;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
}

/**
 * One request on undici's dispatcher, and the body of its answer as an iterator. It stands on the
 * dispatcher rather than on `request()`: without a Node stream in between a chunk costs one promise, and
 * a body that is left before it was begun frees its connection too.
 *
 * When it is aborted or left, what is still to come is drained where that is known to be little, and the
 * connection is destroyed where it is not.
 */
export class Exchange implements Dispatcher.DispatchHandler, AsyncIterableIterator<Uint8Array, undefined> {
  /** Rejects with a `TransportError`, or with the signal's reason. */
  readonly head: Promise<ExchangeHead>;

  readonly #peer: string;
  readonly #lingerMs: number;
  readonly #signal: AbortSignal | undefined;
  readonly #head: PromiseWithResolvers<ExchangeHead> = Promise.withResolvers();

  #controller: Dispatcher.DispatchController | null = null;
  #phase: Phase = 'connecting';
  /** False once it was aborted or left: what still comes is thrown away. */
  #wanted = true;
  #lingered = false;
  #failure: { readonly error: unknown } | null = null;
  /** Bytes still to come by Content-Length; null where that was not given. */
  #rest: number | null = null;
  #queue: Uint8Array[] = [];
  #queued = 0;
  #pull: PromiseWithResolvers<IteratorResult<Uint8Array, undefined>> | null = null;
  #timer: ReturnType<typeof setTimeout> | null = null;

  /**
   * @param peer the origin, for messages
   * @param lingerMs how long an exchange that nobody waits for may go on, so that its connection can
   *   be used again
   * @param signal not aborted yet
   */
  constructor(peer: string, lingerMs: number, signal: AbortSignal | undefined) {
    this.#peer = peer;
    this.#lingerMs = lingerMs;
    this.#signal = signal;
    this.head = this.#head.promise;
    signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#phase === 'connecting') this.#phase = 'waiting';
    if (this.#lingered) this.#destroy();
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: Readonly<Record<string, string | string[] | undefined>>,
  ): void {
    if (status < 200) return;
    const flat: Record<string, string> = {};
    for (const [name, value] of Object.entries(headers)) {
      if (value !== undefined) flat[name] = typeof value === 'string' ? value : value.join(', ');
    }
    const length = flat['content-length'];
    this.#rest = length !== undefined && /^\d{1,15}$/.test(length) ? Number(length) : null;
    this.#phase = 'body';
    if (this.#wanted) this.#head.resolve({ status, headers: flat });
    else if (!this.#cheap()) this.#destroy();
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Uint8Array): void {
    if (this.#rest !== null) this.#rest -= chunk.length;
    if (!this.#wanted) return;
    const pull = this.#pull;
    if (pull !== null) {
      this.#pull = null;
      pull.resolve({ done: false, value: chunk });
      return;
    }
    this.#queue.push(chunk);
    this.#queued += chunk.length;
    if (this.#queued >= HIGH_WATER) controller.pause();
  }

  onResponseEnd(): void {
    this.#over();
    this.#pull?.resolve({ done: true, value: undefined });
    this.#pull = null;
  }

  onResponseError(_controller: Dispatcher.DispatchController | null, error: Error): void {
    if (this.#wanted) this.fail(asTransportError(error, this.#peer, this.#phase));
    else this.#over();
  }

  /** Ends the exchange with an error: for one that could not even be dispatched. */
  fail(error: unknown): void {
    this.#over();
    this.#failure = { error };
    this.#head.reject(error);
    this.#pull?.reject(error);
    this.#pull = null;
  }

  next(): Promise<IteratorResult<Uint8Array, undefined>> {
    const chunk = this.#queue.shift();
    if (chunk !== undefined) {
      this.#queued -= chunk.length;
      if (this.#queued === 0 && this.#controller?.paused === true) this.#controller.resume();
      return Promise.resolve({ done: false, value: chunk });
    }
    if (this.#failure !== null) return Promise.reject(this.#failure.error);
    if (this.#phase === 'over' || !this.#wanted) return Promise.resolve({ done: true, value: undefined });
    if (this.#pull !== null)
      return Promise.reject(new TypeError('A body cannot be read by two readers at once'));
    this.#pull = Promise.withResolvers();
    return this.#pull.promise;
  }

  return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#leave();
    this.#pull?.resolve({ done: true, value: undefined });
    this.#pull = null;
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  readonly #onAbort = (): void => {
    const error: unknown = this.#signal?.reason;
    this.#leave();
    this.#failure = { error };
    this.#head.reject(error);
    this.#pull?.reject(error);
    this.#pull = null;
  };

  #leave(): void {
    if (!this.#wanted) return;
    this.#wanted = false;
    this.#queue = [];
    this.#queued = 0;
    this.#signal?.removeEventListener('abort', this.#onAbort);
    if (this.#phase === 'over') return;
    if (this.#phase === 'body' && !this.#cheap()) {
      this.#destroy();
      return;
    }
    this.#timer = setTimeout(() => {
      this.#lingered = true;
      this.#destroy();
    }, this.#lingerMs);
    this.#timer.unref();
    this.#controller?.resume();
  }

  #cheap(): boolean {
    return this.#rest !== null && this.#rest <= CHEAP_REST;
  }

  #destroy(): void {
    this.#controller?.abort(new Error('Nobody waits for this answer any more'));
  }

  #over(): void {
    this.#phase = 'over';
    this.#signal?.removeEventListener('abort', this.#onAbort);
    if (this.#timer !== null) clearTimeout(this.#timer);
  }
}

const TIMEOUT_CODES: ReadonlySet<string> = new Set([
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
  'ETIMEDOUT',
]);

/** The error of undici or of a socket, in the words of the interface. */
function asTransportError(error: Error, peer: string, phase: Phase): TransportError {
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  const why = error.message === '' ? code || error.name : error.message;
  const cause = { cause: error };
  if (TIMEOUT_CODES.has(code))
    return new TransportError('timeout', `${peer} did not answer in time: ${why}`, cause);
  if (phase === 'connecting')
    return new TransportError('connect', `Cannot connect to ${peer}: ${why}`, cause);
  if (phase === 'waiting' && (error.name === 'HTTPParserError' || code === 'UND_ERR_HEADERS_OVERFLOW')) {
    return new TransportError('protocol', `${peer} does not speak HTTP/1.1 correctly: ${why}`, cause);
  }
  return new TransportError('broken', `The connection to ${peer} broke: ${why}`, cause);
}
