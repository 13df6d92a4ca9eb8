import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { ChunkedBody } from './chunked-body.ts';
import { HOST } from './places.ts';

/** One answer, its body counted and not kept. Times are of the monotonic clock, in milliseconds. */
export interface Answer {
  readonly status: number;
  /** Bytes of the body. */
  readonly bytes: number;
  readonly firstByteAt: number;
}

/** Milliseconds of a clock that all processes of the machine share. */
export function monotonicNow(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

interface Pending {
  readonly path: string;
  readonly onBody: ((chunk: Uint8Array) => void) | undefined;
  resolve(answer: Answer): void;
  reject(error: Error): void;
  head: Buffer;
  status: number;
  length: number;
  chunked: ChunkedBody | null;
  bytes: number;
  firstByteAt: number;
}

const HEAD_END = Buffer.from('\r\n\r\n');

/**
 * A keep-alive connection that does as little as can be done for a request, so that what is measured is
 * the server. An answer has a `Content-Length`, as the design wants it, or comes in chunks, as the local front of
 * workerd sends what a Worker streams; anything else is an error.
 */
export class HttpConnection {
  readonly #port: number;
  #socket: Socket | undefined;
  #pending: Pending | undefined;

  constructor(port: number) {
    this.#port = port;
  }

  /** Sends a GET and reads its whole answer. One request at a time. @throws Error where the answer is not whole */
  request(path: string, onBody?: (chunk: Uint8Array) => void): Promise<Answer> {
    return new Promise((resolve, reject) => {
      if (this.#pending !== undefined)
        throw new Error(`Cannot ask for ${path}: ${this.#pending.path} is under way`);
      this.#pending = {
        path,
        onBody,
        resolve,
        reject,
        head: Buffer.alloc(0),
        status: 0,
        length: 0,
        chunked: null,
        bytes: 0,
        firstByteAt: 0,
      };
      this.#open().write(`GET ${path} HTTP/1.1\r\nHost: ${HOST}:${this.#port}\r\nUser-Agent: bench\r\n\r\n`);
    });
  }

  close(): void {
    this.#socket?.destroy();
    this.#socket = undefined;
  }

  #open(): Socket {
    if (this.#socket !== undefined && !this.#socket.destroyed) return this.#socket;
    const socket = connect({
      host: HOST,
      port: this.#port,
      noDelay: true,
      onread: {
        buffer: Buffer.allocUnsafe(256 * 1024),
        callback: (size, buffer) => {
          this.#receive(buffer.subarray(0, size));
          return true;
        },
      },
    });
    socket.on('error', (error) => this.#fail(error));
    socket.on('close', () => this.#fail(new Error('the connection was closed')));
    this.#socket = socket;
    return socket;
  }

  #fail(error: Error): void {
    const pending = this.#pending;
    this.#pending = undefined;
    pending?.reject(
      new Error(`GET ${pending.path}: ${error.message} after ${pending.bytes} of ${pending.length} bytes`),
    );
  }

  #receive(chunk: Uint8Array): void {
    const pending = this.#pending;
    if (pending === undefined) {
      this.close();
      return;
    }
    if (pending.status !== 0) {
      this.#body(pending, chunk);
      return;
    }
    const head = pending.head.length === 0 ? Buffer.from(chunk) : Buffer.concat([pending.head, chunk]);
    const end = head.indexOf(HEAD_END);
    if (end < 0) {
      pending.head = head;
      return;
    }
    const text = head.toString('latin1', 0, end);
    pending.status = Number(text.slice(9, 12));
    const length = /\r\ncontent-length: *(\d+)/i.exec(text)?.[1];
    if (length === undefined && /\r\ntransfer-encoding: *chunked/i.test(text)) {
      pending.chunked = new ChunkedBody();
      pending.length = Infinity;
    } else if (length === undefined) {
      this.#fail(new Error(`status ${pending.status} without Content-Length`));
      this.close();
      return;
    } else {
      pending.length = Number(length);
    }
    this.#body(pending, head.subarray(end + HEAD_END.length));
  }

  #body(pending: Pending, piece: Uint8Array): void {
    const { chunked } = pending;
    for (const chunk of chunked === null ? [piece] : chunked.take(piece)) {
      if (chunk.length === 0) continue;
      if (pending.bytes === 0) pending.firstByteAt = monotonicNow();
      pending.bytes += chunk.length;
      pending.onBody?.(chunk);
    }
    if (chunked?.isOver === true) pending.length = pending.bytes;
    if (pending.bytes < pending.length) return;
    this.#pending = undefined;
    const { status, bytes, firstByteAt } = pending;
    if (bytes > pending.length) pending.reject(new Error(`GET ${pending.path}: more bytes than announced`));
    else pending.resolve({ status, bytes, firstByteAt });
  }
}
