import type { Context } from 'hono';
import { type ByteStream, isFillable, toReadableStream } from '../stream/byte-stream.ts';
import type { AppEnv, Bindings } from './env.ts';
import { observedBody } from './observed-body.ts';

type Headers = Readonly<Record<string, string>>;

/**
 * Answers with a body that is there as a whole. A HEAD gets the same headers without it.
 *
 * @param size bytes of a text, where they are known already
 */
export function answerBytes(
  c: Context<AppEnv>,
  status: number,
  headers: Headers,
  body: Uint8Array | string,
  size?: number,
): Response {
  const note = c.get('note');
  const length = size ?? (typeof body === 'string' ? new TextEncoder().encode(body).length : body.length);
  const all = { ...headers, 'Content-Length': String(length), 'X-Request-Id': note.id };
  if (c.req.raw.method === 'HEAD') return new Response(null, { status, headers: all });
  note.bytes = length;
  // A text goes out in one piece with its head, where bytes take a second one.
  return new Response(typeof body === 'string' ? body : asBodyInit(body), { status, headers: all });
}

/** Answers without a body. */
export function answerEmpty(c: Context<AppEnv>, status: number, headers: Headers): Response {
  return new Response(null, { status, headers: { ...headers, 'X-Request-Id': c.get('note').id } });
}

/**
 * Answers with a streamed body: the line of the log is written when it is over. The head goes out with the first
 * chunk, so that a body which fails before it is still an error with a status; where it throws later, the
 * connection is broken (law 1), and so it is where the body is not as long as its `Content-Length`.
 *
 * @throws what the body throws before its first chunk
 */
export async function answerStream(
  c: Context<AppEnv>,
  status: number,
  headers: Headers,
  body: ByteStream,
): Promise<Response> {
  const note = c.get('note');
  const begun = isFillable(body) ? body : await begunBody(body, headers['Content-Length']);
  note.begun();
  note.streaming = true;
  const observed = observedBody(begun, note, status);
  const head = { status, headers: { ...headers, 'X-Request-Id': note.id } };
  // Absent where a test or a runtime calls `fetch` with a request alone.
  const bindings: Bindings | undefined = c.env;
  if (bindings?.sendStream !== undefined) return await bindings.sendStream(head, observed);
  return new Response(toReadableStream(observed), head);
}

async function begunBody(body: ByteStream, announced: string | undefined): Promise<ByteStream> {
  const source = body[Symbol.asyncIterator]();
  const first = await source.next();
  return measuredBody(source, first, announced === undefined ? null : Number(announced));
}

/**
 * The rest of a body, with what was read of it already, and an error where it is not as long as was announced: a
 * client that got too little would wait, one that got too much would take it for the next answer.
 *
 * @param length in bytes; null where nothing was announced
 */
function measuredBody(
  source: AsyncIterator<Uint8Array, void>,
  first: IteratorResult<Uint8Array, void>,
  length: number | null,
): ByteStream {
  let read: IteratorResult<Uint8Array, void> | null = first;
  let size = 0;
  const iterator: AsyncIterator<Uint8Array, undefined> = {
    async next() {
      const result = read ?? (await source.next());
      read = null;
      const ended = result.done === true;
      if (!ended) size += result.value.length;
      if (length !== null && (ended ? size !== length : size > length)) {
        await source.return?.();
        throw new Error(`The body has ${ended ? size : `at least ${size}`} bytes, ${length} were announced`);
      }
      return ended ? { done: true, value: undefined } : { done: false, value: result.value };
    },
    async return() {
      await source.return?.();
      return { done: true, value: undefined };
    },
  };
  return { [Symbol.asyncIterator]: () => iterator };
}

/** Ours are never backed by shared memory, which is all that the type excludes. */
function asBodyInit(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes.buffer instanceof ArrayBuffer
    ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    : new Uint8Array(bytes);
}
