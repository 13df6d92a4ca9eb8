import type { ServerResponse } from 'node:http';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import type { ResponseHead } from '../../server/env.ts';
import { type ByteStream, type FillableStream, isFillable } from '../../stream/byte-stream.ts';

/** A client that takes nothing for this long, in milliseconds, is gone. */
const STALLED_MS = 5 * 60 * 1000;

/** Bytes of a buffer that bodies are read into. Two copies of it, in and out, stay in the caches of a processor. */
const BUFFER_BYTES = 256 * 1024;
/** Buffers that are kept for the next body. */
const MOST_KEPT = 32;

const kept: Buffer[] = [];

/**
 * Writes a body to the connection at the client's pace, without a web stream between: that costs several
 * times more per chunk. A body that throws, or ends before its Content-Length, destroys the connection, so that the
 * client never sees a clean end of it (law 1).
 */
export async function sendStream(
  outgoing: ServerResponse,
  head: ResponseHead,
  body: ByteStream,
): Promise<Response> {
  const source = isFillable(body) ? filling(body) : iterating(body);
  const onClose = (): void => {
    // Ends a source that waits; where it is a generator the request's own signal does.
    void source.leave().catch(() => undefined);
  };
  outgoing.once('close', onClose);
  try {
    outgoing.writeHead(head.status, { ...head.headers });
    const length = head.headers['Content-Length'];
    let sent = 0;
    for (;;) {
      const chunk = await source.next();
      if (outgoing.destroyed) return RESPONSE_ALREADY_SENT;
      if (chunk === null) break;
      sent += chunk.length;
      if (!(await written(outgoing, chunk))) return RESPONSE_ALREADY_SENT;
    }
    if (length === undefined || sent === Number(length)) outgoing.end();
    else breakOff(outgoing);
  } catch {
    // The reason is in the log already; the client gets the one sign that cannot be mistaken.
    breakOff(outgoing);
  } finally {
    outgoing.off('close', onClose);
    await source.leave();
  }
  return RESPONSE_ALREADY_SENT;
}

/**
 * Ends the connection so that the client knows that the body is not whole. To a client of HTTP/1.0 (which nginx is to the
 * servers behind it by default) an orderly end of the connection is the end of a body without a length, so it gets a
 * reset. Others can tell by the length or the missing last chunk, and keep what is on its way to them.
 */
function breakOff(outgoing: ServerResponse): void {
  if (outgoing.req.httpVersion === '1.0') outgoing.socket?.resetAndDestroy();
  else outgoing.destroy();
}

/** A body as the loop above reads it: a chunk is used up when the next one is asked for. */
interface Source {
  /** Null at the end. */
  next(): Promise<Uint8Array | null>;
  leave(): Promise<void>;
}

function iterating(body: ByteStream): Source {
  const iterator = body[Symbol.asyncIterator]();
  return {
    async next() {
      const result = await iterator.next();
      return result.done === true ? null : result.value;
    },
    async leave() {
      await iterator.return?.();
    },
  };
}

/** Through one buffer, which is the next body's afterwards: a new one for each chunk would cost more than its bytes. */
function filling(body: FillableStream): Source {
  const buffer = kept.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES);
  let reading: Promise<unknown> = Promise.resolve();
  let left = false;
  return {
    async next() {
      const read = body.readInto(buffer);
      if (typeof read !== 'number') reading = read.catch(() => undefined);
      const count = await read;
      return count === 0 ? null : buffer.subarray(0, count);
    },
    async leave() {
      if (left) return;
      left = true;
      await reading;
      await body.leave();
      if (kept.length < MOST_KEPT) kept.push(buffer);
    },
  };
}

/** Writes a chunk and waits until the system has taken it; false where the client is gone. */
function written(outgoing: ServerResponse, chunk: Uint8Array): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => outgoing.destroy(), STALLED_MS);
    outgoing.write(chunk, (error) => {
      clearTimeout(timer);
      resolve(error === undefined || error === null);
    });
  });
}
