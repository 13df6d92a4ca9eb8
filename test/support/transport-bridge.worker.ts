import { createFetchTransport } from '../../src/upstream/fetch-transport.ts';
import { TransportError } from '../../src/upstream/transport.ts';
import { type BridgedEnd, type BridgedRequest, LAST_FRAME } from './transport-bridge-frames.ts';

/**
 * The fetch transport in real workerd, for tests outside: answers with what the transport gave. The body goes in
 * frames of a length in 32 bits and as many bytes, so that its end, or its error, can be told.
 */
const worker = {
  async fetch(request: Request): Promise<Response> {
    const { url, abortAfterMs, ...rest } = (await request.json()) as BridgedRequest;
    const signal = abortAfterMs === undefined ? request.signal : AbortSignal.timeout(abortAfterMs);
    const transport = createFetchTransport({ userAgent: 'snowcap-test' });
    try {
      const answer = await transport.request({ ...rest, url: new URL(url), signal });
      const body = answer.body[Symbol.asyncIterator]();
      const frames = new ReadableStream<Uint8Array>(
        {
          async pull(controller) {
            try {
              const { done, value } = await body.next();
              if (done !== true) return controller.enqueue(framed(value.length, value));
              controller.enqueue(lastFrame({ kind: 'end' }));
            } catch (error) {
              controller.enqueue(lastFrame(endOf(error)));
            }
            controller.close();
          },
          async cancel() {
            await body.return?.();
          },
        },
        { highWaterMark: 0 },
      );
      const head = JSON.stringify({ status: answer.status, headers: answer.headers });
      return new Response(frames, { headers: { 'X-Head': head } });
    } catch (error) {
      return Response.json(endOf(error), { status: 502 });
    }
  },
};

export default worker;

function endOf(error: unknown): BridgedEnd {
  if (error instanceof TransportError) {
    return { kind: 'transport', error: error.kind, message: error.message };
  }
  return { kind: 'other', message: String(error) };
}

function lastFrame(end: BridgedEnd): Uint8Array {
  return framed(LAST_FRAME, new TextEncoder().encode(JSON.stringify(end)));
}

function framed(length: number, bytes: Uint8Array): Uint8Array {
  const frame = new Uint8Array(4 + bytes.length);
  new DataView(frame.buffer).setUint32(0, length);
  frame.set(bytes, 4);
  return frame;
}
