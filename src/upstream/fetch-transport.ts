import { FetchBody } from './fetch-body.ts';
import { followRedirects } from './redirects.ts';
import { TransportError } from './transport.ts';
import type { Transport, TransportRequest, TransportResponse } from './transport.ts';

export interface FetchTransportOptions {
  /** Sent with every request. */
  readonly userAgent: string;
  /**
   * The `fetch` of Workers. That of Node will not do: it has no way to leave a `Content-Encoding` as it is.
   *
   * @default the global one
   */
  readonly fetch?: (url: string, init: RequestInit) => Promise<Response>;
}

/** What Workers know beyond the standard. */
interface WorkersInit extends RequestInit {
  /** `manual`: the body comes as it was sent, whatever its `Content-Encoding`. By default workerd undoes gzip and br. */
  readonly encodeResponseBody: 'manual';
}

/**
 * The transport of Workers, on their `fetch`. To be made for each request: the connections of one request
 * must not be used by another. It cannot tell a connection that was refused from one that broke before the
 * headers: both are of kind `connect`.
 */
export function createFetchTransport(options: FetchTransportOptions): Transport {
  const send = options.fetch ?? ((url: string, init: RequestInit) => fetch(url, init));
  const closing = new AbortController();

  async function exchange(
    url: URL,
    request: TransportRequest,
    headers: Readonly<Record<string, string>>,
  ): Promise<TransportResponse> {
    const { signal } = request;
    const stopping = new AbortController();
    const stop = (): void => stopping.abort(signal?.reason);
    const close = (): void => stopping.abort(new TransportError('broken', 'The transport was closed'));
    signal?.addEventListener('abort', stop, { once: true });
    closing.signal.addEventListener('abort', close, { once: true });
    const over = (): void => {
      signal?.removeEventListener('abort', stop);
      closing.signal.removeEventListener('abort', close);
    };
    const late = setTimeout(
      () => stopping.abort(new TransportError('timeout', `${url.origin} did not answer in time`)),
      request.headersTimeoutMs,
    );
    const init: WorkersInit = {
      method: request.method,
      headers,
      redirect: 'manual',
      signal: stopping.signal,
      // What an upstream says is for this cache to remember, not for the one of the data centre.
      cache: 'no-store',
      encodeResponseBody: 'manual',
    };
    try {
      const response = await send(url.href, init);
      const body = new FetchBody(response.body, {
        peer: url.origin,
        length: request.method === 'HEAD' ? null : contentLength(response.headers),
        idleTimeoutMs: request.idleTimeoutMs,
        signal: stopping.signal,
        over,
      });
      return { status: response.status, headers: Object.fromEntries(response.headers), body };
    } catch (error) {
      over();
      if (stopping.signal.aborted) throw stopping.signal.reason;
      throw new TransportError('connect', `${url.origin} gave no answer: ${reasonOf(error)}`, {
        cause: error,
      });
    } finally {
      clearTimeout(late);
    }
  }

  return {
    async request(request) {
      request.signal?.throwIfAborted();
      const headers = { 'user-agent': options.userAgent, ...request.headers };
      return await followRedirects(request, headers, (url, sent) => exchange(url, request, sent));
    },

    close() {
      closing.abort();
      return Promise.resolve();
    },
  };
}

function contentLength(headers: Headers): number | null {
  const text = headers.get('content-length') ?? '';
  return /^\d{1,15}$/.test(text) ? Number(text) : null;
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
