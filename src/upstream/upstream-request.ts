import type { TransportResponse } from './transport.ts';
import type { UpstreamFault } from './upstreams.ts';

/** One request to an upstream, and what is made of its answer. */
export interface UpstreamRequest<T> {
  /** For metrics, and for the patience with its headers. */
  readonly kind: 'narinfo' | 'nar';
  readonly method: 'GET' | 'HEAD';
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
  /**
   * Makes the result of an answer with status 200, 206 or 416. It owns the body. A `TransportError` from
   * it is retried.
   *
   * @throws InvalidAnswerError where the answer makes no sense
   */
  read(response: TransportResponse): Promise<T>;
}

export type Exchanged<T> =
  | { readonly kind: 'read'; readonly value: T }
  | { readonly kind: 'missing' }
  | { readonly kind: 'fault'; readonly fault: UpstreamFault };
