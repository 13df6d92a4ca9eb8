import type { Readable } from 'node:stream';
import { request } from 'undici';
import { type ByteStream, withCleanup } from '../../src/stream/byte-stream.ts';
import { TransportError } from '../../src/upstream/transport.ts';
import type { Transport, TransportRequest, TransportResponse } from '../../src/upstream/transport.ts';
import { type BridgedEnd, type BridgedRequest, LAST_FRAME } from './transport-bridge-frames.ts';
import { startWorker } from './workerd.ts';

/** A workerd with the fetch transport in it. */
export interface TransportBridge {
  /** Each is for one test. */
  createTransport(): Transport;
  /** Answers to a `BridgedRequest`. */
  readonly url: string;
  close(): Promise<void>;
}

export async function startTransportBridge(): Promise<TransportBridge> {
  const worker = await startWorker(new URL('./transport-bridge.worker.ts', import.meta.url));
  return {
    url: worker.url,
    createTransport: () => bridgedTransport(worker.url),
    close: () => worker.close(),
  };
}

function bridgedTransport(bridge: string): Transport {
  const closing = new AbortController();
  return {
    async request(asked: TransportRequest): Promise<TransportResponse> {
      const { signal, url, ...rest } = asked;
      const both = signal === undefined ? closing.signal : AbortSignal.any([signal, closing.signal]);
      both.throwIfAborted();
      const sent: BridgedRequest = { ...rest, url: url.href };
      const answer = await request(bridge, { method: 'POST', body: JSON.stringify(sent), signal: both });
      if (answer.statusCode !== 200) throw errorOf((await answer.body.json()) as BridgedEnd);
      const head = JSON.parse(String(answer.headers['x-head'])) as Omit<TransportResponse, 'body'>;
      return { ...head, body: unframed(answer.body, both) };
    },
    close() {
      closing.abort(new TransportError('broken', 'The transport was closed'));
      return Promise.resolve();
    },
  };
}

function errorOf(end: BridgedEnd): Error {
  if (end.kind === 'transport') return new TransportError(end.error, end.message);
  return new Error(end.kind === 'end' ? 'The bridge answered with no head' : end.message);
}

/** The body out of its frames. Leaving it, begun or not, ends the connection to the bridge. */
function unframed(frames: Readable, signal: AbortSignal): ByteStream {
  return withCleanup(readFrames(frames, signal), () => frames.destroy());
}

async function* readFrames(
  frames: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  let rest = new Uint8Array();
  try {
    for await (const piece of frames) {
      rest = joined(rest, piece);
      while (rest.length >= 4) {
        const length = new DataView(rest.buffer, rest.byteOffset).getUint32(0);
        if (length === LAST_FRAME || rest.length < 4 + length) break;
        yield rest.slice(4, 4 + length);
        rest = rest.slice(4 + length);
      }
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
  const end = JSON.parse(new TextDecoder().decode(rest.subarray(4))) as BridgedEnd;
  if (end.kind !== 'end') throw errorOf(end);
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}
