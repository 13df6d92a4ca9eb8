/**
 * The currency of bodies in the core: a single-use, pull-driven sequence of chunks.
 *
 * - Nothing is produced before the consumer asks (`next()`), so back-pressure is the loop itself.
 * - Leaving the loop early (`return()`) cancels the source and frees what it holds.
 * - An error thrown by the iteration means that the body is not whole; a clean end means that it is.
 *
 * Async iterables rather than web streams: on Node a web stream costs several times more per chunk,
 * and Node's own readable streams are async iterables already.
 */
export type ByteStream = AsyncIterable<Uint8Array, void>;

/**
 * A byte stream that can also be read into a buffer of its reader's, so that a long body needs no new memory
 * for each chunk. Either it is iterated or it is read into, never both.
 */
export interface FillableStream extends ByteStream {
  /**
   * Fills `target` from its start, at once where the bytes are at hand.
   *
   * @returns how many bytes there are now, 0 at the end; throws (or rejects) as `next()` would
   */
  readInto(target: Uint8Array): number | Promise<number>;
  /** Leaves the stream: to be called at the end, at an error, and when nothing more is wanted. */
  leave(): Promise<void>;
}

export function isFillable(stream: ByteStream): stream is FillableStream {
  return 'readInto' in stream;
}

/** Thrown where a body is longer than the limit that was set for it. */
export class BodyTooLargeError extends Error {
  override readonly name = 'BodyTooLargeError';
  /** In bytes. */
  readonly limit: number;

  constructor(what: string, limit: number) {
    super(`${what} is larger than ${limit} bytes`);
    this.limit = limit;
  }
}

/** A stream of the chunks given, in order. Empty chunks are skipped. */
export async function* streamOf(...chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array, void, void> {
  for (const chunk of chunks) if (chunk.length > 0) yield chunk;
}

/**
 * Reads the stream to its end into one array. For small bodies only (narinfos, listings).
 *
 * @param limit the most bytes that are accepted
 * @throws BodyTooLargeError as soon as the limit is passed; the source is cancelled
 */
export async function collect(stream: ByteStream, limit: number, what = 'The body'): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of stream) {
    size += chunk.length;
    if (size > limit) throw new BodyTooLargeError(what, limit);
    chunks.push(chunk);
  }
  return concat(chunks, size);
}

/** One array of all the chunks. */
export function concat(
  chunks: readonly Uint8Array[],
  size: number = chunks.reduce((sum, chunk) => sum + chunk.length, 0),
): Uint8Array {
  if (chunks.length === 1 && chunks[0] !== undefined) return chunks[0];
  const whole = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}

/**
 * A web stream that pulls from the byte stream, one chunk a pull. An error of the source errors the
 * stream, so that a runtime breaks the connection rather than end it. Cancelling it ends the source.
 *
 * @param length bytes of the whole, where they are known: workerd answers with a Content-Length only where the stream
 *   itself tells it (https://developers.cloudflare.com/workers/runtime-apis/streams/readablestream/); others pass over it
 */
export function toReadableStream(stream: ByteStream, length?: number): ReadableStream<Uint8Array> {
  const iterator = stream[Symbol.asyncIterator]();
  const source = {
    async pull(controller: ReadableStreamDefaultController<Uint8Array>) {
      const { done, value } = await iterator.next();
      if (done === true) controller.close();
      else controller.enqueue(value);
    },
    async cancel() {
      await iterator.return?.();
    },
    ...(length === undefined ? {} : { expectedLength: length }),
  };
  return new ReadableStream(source, { highWaterMark: 0 });
}

/**
 * The same stream with work to do exactly once when it is over: at its end, at its error, or when it is
 * left, also when it is left before its first chunk (where the `finally` of a generator would not run). It can be read
 * into a buffer if the stream can.
 *
 * @param cleanup gets the error that ended the stream
 * @param onChunk called with the bytes of each chunk
 */
export function withCleanup(
  stream: ByteStream,
  cleanup: (error?: unknown) => void,
  onChunk?: (bytes: number) => void,
): ByteStream {
  const source = stream[Symbol.asyncIterator]();
  let over = false;
  const finish = (error?: unknown): void => {
    if (over) return;
    over = true;
    cleanup(error);
  };
  const iterator: AsyncIterator<Uint8Array, undefined> = {
    async next() {
      try {
        const result = await source.next();
        if (result.done !== true) {
          onChunk?.(result.value.length);
          return result;
        }
      } catch (error) {
        finish(error);
        throw error;
      }
      finish();
      return { done: true, value: undefined };
    },
    async return() {
      finish();
      await source.return?.();
      return { done: true, value: undefined };
    },
  };
  const watched: ByteStream = { [Symbol.asyncIterator]: () => iterator };
  return isFillable(stream) ? { ...watched, ...fillingWith(stream, finish, onChunk) } : watched;
}

/** The same where it is read into its reader's buffer. */
function fillingWith(
  stream: FillableStream,
  finish: (error?: unknown) => void,
  onChunk: ((bytes: number) => void) | undefined,
): Pick<FillableStream, 'readInto' | 'leave'> {
  const count = (bytes: number): number => {
    if (bytes === 0) finish();
    else onChunk?.(bytes);
    return bytes;
  };
  const broken = (error: unknown): never => {
    finish(error);
    throw error;
  };
  return {
    readInto(target) {
      try {
        const bytes = stream.readInto(target);
        return typeof bytes === 'number' ? count(bytes) : bytes.then(count, broken);
      } catch (error) {
        return broken(error);
      }
    },
    async leave() {
      finish();
      await stream.leave();
    },
  };
}

/** Leaves a stream unread, so that its source frees what it holds. */
export async function leave(stream: ByteStream): Promise<void> {
  await stream[Symbol.asyncIterator]().return?.();
}

/**
 * The bytes from `start` to `end` (both inclusive) of a stream of a whole body. Leaves the rest unread.
 *
 * @throws Error where the stream ends before `end`
 */
export async function* sliced(
  stream: ByteStream,
  start: number,
  end: number,
): AsyncGenerator<Uint8Array, void, void> {
  let position = 0;
  for await (const chunk of stream) {
    const from = Math.max(0, start - position);
    const piece = chunk.subarray(from, Math.max(from, end + 1 - position));
    position += chunk.length;
    if (piece.length > 0) yield piece;
    if (position > end) return;
  }
  throw new Error(`The body ended at byte ${position}, before the end of the range`);
}
