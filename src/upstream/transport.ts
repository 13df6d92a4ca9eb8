import type { ByteStream } from '../stream/byte-stream.ts';

/**
 * One HTTP exchange, as the upstream client needs it: no retries, no decoding of
 * `Content-Encoding`, redirects followed (GET and HEAD, at most 10; credentials never leave the
 * origin they were given for).
 */
export interface Transport {
  /**
   * @throws TransportError where no answer came; the signal's reason when it is aborted
   */
  request(request: TransportRequest): Promise<TransportResponse>;
  close(): Promise<void>;
}

export interface TransportRequest {
  readonly method: 'GET' | 'HEAD';
  readonly url: URL;
  /** What is asked for, in a word, for traces. */
  readonly what?: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Milliseconds until the headers must be there. */
  readonly headersTimeoutMs: number;
  /** Milliseconds that the body may stand still while it is being read. */
  readonly idleTimeoutMs: number;
  readonly signal?: AbortSignal;
}

export interface TransportResponse {
  readonly status: number;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  /**
   * Must be read to its end or left (`return()`). Throws `TransportError` where the connection broke,
   * stood still, or ended before its Content-Length.
   */
  readonly body: ByteStream;
}

/** No whole answer: the connection could not be made, broke, or stood still. */
export class TransportError extends Error {
  override readonly name = 'TransportError';
  readonly kind: 'connect' | 'timeout' | 'broken' | 'protocol';

  constructor(kind: TransportError['kind'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.kind = kind;
  }
}
