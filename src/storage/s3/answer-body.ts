/** The body of an answer, pulled chunk by chunk. */
export interface AnswerBody {
  /** Null at its end, also where that came too early. @throws what the connection gave */
  next(): Promise<Uint8Array | null>;
  /** Breaks the connection; a `next` that waits ends then. Nothing where the body was read to its end. */
  cancel(): void;
}

/** A readable stream of Node, as far as it is used. */
interface NodeBody extends AsyncIterable<Uint8Array> {
  destroy(): unknown;
}

/**
 * A body as the SDK gives it: a readable of Node, or a web stream.
 *
 * Neither is handed on as it is: leaving the iteration of a readable that was never asked for a chunk runs
 * none of its code, and its connection would stay open.
 *
 * @throws TypeError for anything else
 */
export function answerBody(body: unknown): AnswerBody {
  if (body instanceof ReadableStream) return webBody(body);
  if (isNodeBody(body)) return nodeBody(body);
  throw new TypeError('Expected the body of the answer to be a stream');
}

function webBody(stream: ReadableStream<unknown>): AnswerBody {
  const reader = stream.getReader();
  return {
    async next() {
      const { done, value } = await reader.read();
      if (done) return null;
      if (!(value instanceof Uint8Array)) throw new TypeError('Expected the body of the answer to be bytes');
      return value;
    },
    cancel() {
      // A stream that has failed already refuses.
      void reader.cancel().catch(() => undefined);
    },
  };
}

function nodeBody(stream: NodeBody): AnswerBody {
  let iterator: AsyncIterator<Uint8Array> | null = null;
  return {
    async next() {
      iterator ??= stream[Symbol.asyncIterator]();
      const result = await iterator.next();
      return result.done === true ? null : result.value;
    },
    cancel() {
      stream.destroy();
    },
  };
}

function isNodeBody(body: unknown): body is NodeBody {
  return typeof body === 'object' && body !== null && Symbol.asyncIterator in body && 'destroy' in body;
}
