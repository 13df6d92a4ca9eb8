import type { IncomingMessage } from 'node:http';

/** Bytes of a request or of a buffered answer, as payload of the function. */
export const BUFFERED_LIMIT: number = 6 * 1024 * 1024;
/** Bytes of a streamed answer; what is more is cut off. */
export const STREAMED_LIMIT: number = 200 * 1024 * 1024;

/** Payload format 2.0, which function URLs and HTTP APIs share. */
export interface HttpEvent {
  readonly version: '2.0';
  readonly routeKey: '$default';
  readonly rawPath: string;
  readonly rawQueryString: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly requestContext: {
    readonly domainName: string;
    readonly http: {
      readonly method: string;
      readonly path: string;
      readonly protocol: string;
      readonly sourceIp: string;
      readonly userAgent: string;
    };
    readonly requestId: string;
    readonly stage: '$default';
    readonly timeEpoch: number;
  };
  readonly body?: string;
  readonly isBase64Encoded: boolean;
}

/** What a buffered function answers, as far as it is read. */
export interface BufferedResult {
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly isBase64Encoded: boolean;
}

/**
 * The event of a request, read to its end.
 *
 * https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads
 *
 * @returns null where the request is too large for an event
 */
export async function eventOf(incoming: IncomingMessage, domainName: string): Promise<HttpEvent | null> {
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of incoming as AsyncIterable<Buffer>) {
    size += piece.length;
    if (size <= BUFFERED_LIMIT) pieces.push(piece);
  }
  const url = incoming.url ?? '/';
  const question = url.indexOf('?');
  const path = question === -1 ? url : url.slice(0, question);
  const headers = Object.fromEntries(
    Object.entries(incoming.headers).map(([name, value]) => [
      name,
      Array.isArray(value) ? value.join(',') : (value ?? ''),
    ]),
  );
  const event: HttpEvent = {
    version: '2.0',
    routeKey: '$default',
    rawPath: path,
    rawQueryString: question === -1 ? '' : url.slice(question + 1),
    headers: { ...headers, host: domainName, 'x-forwarded-proto': 'https' },
    requestContext: {
      domainName,
      http: {
        method: incoming.method ?? 'GET',
        path,
        protocol: 'HTTP/1.1',
        sourceIp: '127.0.0.1',
        userAgent: headers['user-agent'] ?? '',
      },
      requestId: headers['x-request-id'] ?? 'id',
      stage: '$default',
      timeEpoch: Date.now(),
    },
    ...(size === 0 ? {} : { body: Buffer.concat(pieces).toString('base64') }),
    isBase64Encoded: size > 0,
  };
  return size > BUFFERED_LIMIT || JSON.stringify(event).length > BUFFERED_LIMIT ? null : event;
}

/** @throws Error where the function answered something else */
export function parseResult(text: string): BufferedResult {
  const value: unknown = JSON.parse(text);
  if (typeof value !== 'object' || value === null || !('statusCode' in value)) {
    throw new Error('The function answered without a statusCode');
  }
  return {
    headers: {},
    body: '',
    isBase64Encoded: false,
    ...(value as Partial<BufferedResult>),
  } as BufferedResult;
}
