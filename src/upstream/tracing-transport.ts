import { type ByteStream, withCleanup } from '../stream/byte-stream.ts';
import { endSpan, startSpan, traceHeaders, within } from '../telemetry/tracing.ts';
import type { Attributes, Span } from '../telemetry/tracing.ts';
import type { Transport, TransportRequest } from './transport.ts';

/**
 * The same transport, each of whose exchanges is a span below the active one, until its body is over, and names that
 * span to the server: so that two caches in a row give one trace.
 */
export function tracingTransport(transport: Transport): Transport {
  return {
    async request(request) {
      const span = startSpan(nameOf(request), attributesOf(request), 'client');
      const traced = { ...request, headers: { ...request.headers, ...traceHeaders(span) } };
      if (span === null) return await transport.request(traced);
      try {
        const response = await within(span, () => transport.request(traced));
        const { status } = response;
        span.setAttribute('http.response.status_code', status);
        return { ...response, body: tracedBody(response.body, span, request.signal, status) };
      } catch (error) {
        end(span, request.signal, error);
        throw error;
      }
    },
    close: () => transport.close(),
  };
}

function nameOf({ method, what }: TransportRequest): string {
  return `upstream ${method}${what === undefined ? '' : ` ${what}`}`;
}

/** Without the query, which may be a credential (law 10). */
function attributesOf({ method, url, what }: TransportRequest): Attributes {
  return {
    'http.request.method': method,
    'server.address': url.hostname,
    'server.port': Number(url.port) || (url.protocol === 'https:' ? 443 : 80),
    'url.full': `${url.origin}${url.pathname}`,
    'snowcap.what': what,
  };
}

/** A loser of a race, or a request whose client has left, did not fail. */
function end(span: Span, signal: AbortSignal | undefined, error?: unknown): void {
  if (error !== undefined && signal?.aborted === true) {
    span.setAttribute('snowcap.cancelled', true);
    endSpan(span);
  } else endSpan(span, error);
}

function tracedBody(
  body: ByteStream,
  span: Span,
  signal: AbortSignal | undefined,
  status: number,
): ByteStream {
  let size = 0;
  return withCleanup(
    body,
    (error) => {
      span.setAttribute('http.response.body.size', size);
      // What is not there is an answer like any other.
      end(span, signal, error ?? (status >= 500 ? new Error(`The upstream answered ${status}`) : undefined));
    },
    (bytes) => {
      size += bytes;
    },
  );
}
