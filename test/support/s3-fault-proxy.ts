import { createServer, request as httpRequest } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { drained } from './fault-server.ts';
import type { S3Server } from './s3-server.ts';

/** An operation of the S3 API, as far as a store asks for it. */
export type S3Operation =
  | 'AbortMultipartUpload'
  | 'CompleteMultipartUpload'
  | 'CreateMultipartUpload'
  | 'DeleteObjects'
  | 'GetObject'
  | 'HeadObject'
  | 'ListMultipartUploads'
  | 'ListObjectsV2'
  | 'ListParts'
  | 'PutObject'
  | 'UploadPart';

/** What goes wrong with one request. All offsets are bytes of a body. */
export type S3Fault =
  /** Answered here, after the body of the request was read; the server hears nothing of it. */
  | {
      readonly kind: 'answer';
      readonly status: number;
      readonly body?: string;
      readonly headers?: Readonly<Record<string, string>>;
    }
  /** The server does its work, and then the connection is reset without a byte of the answer. */
  | { readonly kind: 'lose-answer' }
  /** The connection is reset in the middle of the request; the server hears nothing of it. */
  | { readonly kind: 'cut-request'; readonly at: number }
  /** The connection is reset in the middle of the answer, which may have a header less. */
  | { readonly kind: 'cut-answer'; readonly at: number; readonly without?: string }
  /** Nothing more comes of the answer. */
  | { readonly kind: 'stall-answer'; readonly at: number }
  /** The request waits here. */
  | { readonly kind: 'hold'; readonly until: Promise<unknown> };

export interface SeenRequest {
  readonly operation: S3Operation;
  /** Without the bucket. */
  readonly key: string;
  /** Decoded. */
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage['headers'];
  /** Bytes of the answer that its connection took so far. */
  readonly bytesSent: number;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** A proxy before an S3 server that fails as it is told. */
export interface S3FaultProxy {
  /** The server, reached through the proxy. Closing it closes the proxy alone. */
  readonly server: S3Server;
  /** Every request, in order of arrival. */
  readonly requests: readonly SeenRequest[];
  /** How many requests of an operation came. */
  count(operation: S3Operation): number;
  /** Lets the next requests of an operation fail; after what was set before for it. @param times default 1 */
  fail(operation: S3Operation, fault: S3Fault, times?: number): void;
}

/** An answer as S3 gives it where something is wrong. */
export function s3Error(
  status: number,
  code: string,
  message: string = code,
): Extract<S3Fault, { readonly kind: 'answer' }> {
  const body = `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`;
  return { kind: 'answer', status, body };
}

/** Starts the proxy on a free port of 127.0.0.1. Close its server. */
export async function startS3FaultProxy(target: S3Server): Promise<S3FaultProxy> {
  const requests: Mutable<SeenRequest>[] = [];
  const faults = new Map<S3Operation, S3Fault[]>();
  const sockets = new Set<Socket>();
  const targetUrl = new URL(target.endpoint);
  const root = `${targetUrl.pathname === '/' ? '' : targetUrl.pathname}/${target.bucket}`;

  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', targetUrl);
    const operation = operationOf(
      request.method ?? 'GET',
      url,
      /^\/?$/.test(url.pathname.slice(root.length)),
    );
    const key = decodeURIComponent(url.pathname.slice(root.length + 1));
    const seen = { operation, key, query: url.searchParams, headers: request.headers, bytesSent: 0 };
    requests.push(seen);
    const fault = faults.get(operation)?.shift() ?? null;
    // Afterwards the request may have lost it.
    const { socket } = request;
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    pass(request, response, socket, targetUrl, fault, seen).catch(() => {
      socket.destroy();
    });
  });
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    server: {
      ...target,
      endpoint: `http://127.0.0.1:${port}${targetUrl.pathname === '/' ? '' : targetUrl.pathname}`,
      close: () =>
        new Promise((resolve) => {
          server.close(() => resolve());
          for (const socket of sockets) socket.destroy();
        }),
    },
    requests,
    count: (operation) => requests.filter((seen) => seen.operation === operation).length,
    fail(operation, fault, times = 1) {
      const queue = faults.get(operation) ?? [];
      faults.set(operation, [...queue, ...Array.from({ length: times }, () => fault)]);
    },
  };
}

function operationOf(method: string, { searchParams }: URL, isBucket: boolean): S3Operation {
  const upload = searchParams.has('uploadId');
  switch (method) {
    case 'HEAD':
      return 'HeadObject';
    case 'PUT':
      return upload ? 'UploadPart' : 'PutObject';
    case 'DELETE':
      return 'AbortMultipartUpload';
    case 'POST':
      if (isBucket) return 'DeleteObjects';
      return upload ? 'CompleteMultipartUpload' : 'CreateMultipartUpload';
    default:
      if (isBucket) return searchParams.has('uploads') ? 'ListMultipartUploads' : 'ListObjectsV2';
      return upload ? 'ListParts' : 'GetObject';
  }
}

async function pass(
  request: IncomingMessage,
  response: ServerResponse,
  socket: Socket,
  target: URL,
  fault: S3Fault | null,
  seen: Mutable<SeenRequest>,
): Promise<void> {
  if (fault?.kind === 'hold') await fault.until;
  if (fault?.kind === 'cut-request') {
    let taken = 0;
    for await (const chunk of request as AsyncIterable<Buffer>) {
      taken += chunk.length;
      if (taken >= fault.at) break;
    }
    socket.resetAndDestroy();
    return;
  }
  if (fault?.kind === 'answer') {
    for await (const _ of request);
    response
      .writeHead(fault.status, { 'Content-Type': 'application/xml', ...fault.headers })
      .end(fault.body ?? '');
    return;
  }
  const answer = await forward(request, target);
  const headers = { ...answer.headers };
  if (fault?.kind === 'cut-answer' && fault.without !== undefined) delete headers[fault.without];
  if (fault?.kind === 'lose-answer') {
    for await (const _ of answer);
    socket.resetAndDestroy();
    return;
  }
  response.writeHead(answer.statusCode ?? 502, headers);
  response.flushHeaders();
  const limit = fault?.kind === 'cut-answer' || fault?.kind === 'stall-answer' ? fault.at : Infinity;
  // A client that leaves ends the answer of the server too.
  response.on('close', () => answer.destroy());
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    const piece = chunk.subarray(0, limit - seen.bytesSent);
    seen.bytesSent += piece.length;
    if (!response.write(piece)) await drained(response);
    if (seen.bytesSent < limit) continue;
    if (fault?.kind === 'stall-answer') return;
    // Let the bytes reach the other side before the connection goes.
    await sleep(20);
    socket.resetAndDestroy();
    return;
  }
  response.end();
}

/** The answer of the server to the request, which keeps the `Host` that the client signed. */
function forward(request: IncomingMessage, target: URL): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const passed = httpRequest(
      {
        host: target.hostname,
        port: target.port,
        method: request.method,
        path: request.url,
        headers: request.headers,
      },
      resolve,
    );
    passed.on('error', reject);
    request.on('close', () => {
      if (!request.complete) passed.destroy();
    });
    request.pipe(passed);
  });
}
