import type { ServerResponse } from 'node:http';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import type { ResponseHead } from '../../server/env.ts';
import type { ByteStream } from '../../stream/byte-stream.ts';

/** A client that takes nothing for this long, in milliseconds, is gone. */
const STALLED_MS = 5 * 60 * 1000;

/**
 * Writes a body chunk by chunk to the connection, at the client's pace, without a web stream between: that
 * costs several times more per chunk. A body that throws destroys the connection, so that the client
 * never sees a clean end of it (law 1).
 */
export async function sendStream(
  outgoing: ServerResponse,
  head: ResponseHead,
  body: ByteStream,
): Promise<Response> {
  const iterator = body[Symbol.asyncIterator]();
  const gone = Promise.withResolvers<'gone'>();
  const onClose = (): void => {
    gone.resolve('gone');
    // Ends a source that waits; where it is a generator the request's own signal does.
    void iterator.return?.()?.catch(() => undefined);
  };
  outgoing.once('close', onClose);
  try {
    outgoing.writeHead(head.status, { ...head.headers });
    for (;;) {
      const result = await iterator.next();
      if (result.done === true) break;
      if (outgoing.destroyed) return RESPONSE_ALREADY_SENT;
      if (!outgoing.write(result.value) && !(await drained(outgoing, gone.promise)))
        return RESPONSE_ALREADY_SENT;
    }
    if (!outgoing.destroyed) outgoing.end();
  } catch {
    // The reason is in the log already; the client gets the one sign that cannot be mistaken.
    outgoing.destroy();
  } finally {
    outgoing.off('close', onClose);
    await iterator.return?.();
  }
  return RESPONSE_ALREADY_SENT;
}

/** Waits until the client has taken what was written; false where it is gone. */
async function drained(outgoing: ServerResponse, gone: Promise<'gone'>): Promise<boolean> {
  const ready = Promise.withResolvers<'ready'>();
  const onDrain = (): void => ready.resolve('ready');
  const timer = setTimeout(() => outgoing.destroy(), STALLED_MS);
  outgoing.once('drain', onDrain);
  const outcome = await Promise.race([ready.promise, gone]);
  clearTimeout(timer);
  outgoing.off('drain', onDrain);
  return outcome === 'ready';
}
