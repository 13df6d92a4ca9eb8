import type { BackgroundJob } from '../../platform.ts';
import { parseJob } from '../parse-job.ts';

/**
 * A request as function URLs and HTTP APIs of API Gateway hand it over (payload format 2.0); only what is read of it.
 * https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads
 */
export interface HttpEvent {
  readonly rawPath: string;
  /** Without `?`. */
  readonly rawQueryString?: string;
  /** Names in lower case; several values of one name are separated by commas. */
  readonly headers?: Readonly<Record<string, string | undefined>>;
  readonly requestContext: {
    readonly domainName?: string;
    readonly http: { readonly method: string };
    readonly stage?: string;
  };
  readonly body?: string;
  readonly isBase64Encoded?: boolean;
}

/** What the function was invoked for. */
export type FunctionEvent =
  | { readonly kind: 'http'; readonly event: HttpEvent }
  /** By itself, asynchronously. */
  | { readonly kind: 'job'; readonly job: BackgroundJob }
  /** `{"kind":"start-up"}`, by who deploys it: what a process would do when it starts. */
  | { readonly kind: 'start-up' };

/** @throws Error for any other event, without what it holds */
export function parseEvent(event: unknown): FunctionEvent {
  if (isHttpEvent(event)) return { kind: 'http', event };
  if (textOf(event, 'kind') === 'start-up') return { kind: 'start-up' };
  const job = parseJob(event);
  if (job !== null) return { kind: 'job', job };
  throw new Error(
    'Cannot tell what this event is for: expected an HTTP event, a background job or a start-up',
  );
}

/** The request of an event. @param signal aborts when the function must end */
export function requestOf(event: HttpEvent, signal: AbortSignal): Request {
  const { requestContext, rawQueryString = '', headers = {}, body } = event;
  const { http, stage = '$default', domainName = headers['host'] ?? 'localhost' } = requestContext;
  // An HTTP API puts the name of a stage in front of the path, but for the default one.
  const prefix = `/${stage}/`;
  const path = event.rawPath.startsWith(prefix) ? event.rawPath.slice(prefix.length - 1) : event.rawPath;
  const query = rawQueryString === '' ? '' : `?${rawQueryString}`;
  const given = Object.entries(headers).flatMap(([name, value]): [string, string][] =>
    // A header is bytes, which the event has as a text.
    value === undefined ? [] : [[name, Buffer.from(value).toString('latin1')]],
  );
  // It has no meaning for them (RFC 9110 §9.3.1), and a Request takes none.
  const hasBody = body !== undefined && http.method !== 'GET' && http.method !== 'HEAD';
  return new Request(`https://${domainName}${path}${query}`, {
    method: http.method,
    headers: given,
    signal,
    ...(hasBody ? { body: bytesOf(body, event.isBase64Encoded === true) } : {}),
  });
}

function bytesOf(body: string, base64: boolean): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.from(body, base64 ? 'base64' : 'utf8'));
}

function isHttpEvent(event: unknown): event is HttpEvent {
  const http = field(field(event, 'requestContext'), 'http');
  return textOf(event, 'rawPath') !== null && textOf(http, 'method') !== null;
}

function textOf(value: unknown, name: string): string | null {
  const found = field(value, name);
  return typeof found === 'string' ? found : null;
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}
