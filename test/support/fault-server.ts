import { createServer as createHttpServer } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { encoded, faulty, openBody, parseRange } from './fault-server-body.ts';
import type { Behaviour, OpenBody } from './fault-server-body.ts';

export type { Behaviour } from './fault-server-body.ts';

export interface FaultServerOptions {
  /** PEM texts; with them the server speaks HTTPS. */
  readonly tls?: { readonly key: string; readonly cert: string };
  /** What is answered where neither a route nor a file is there. Default 404. */
  readonly missingStatus?: number;
  /** Applies to every request that no route takes; its latency, throttle and so on. */
  readonly fallback?: Behaviour;
}

export interface RecordedRequest {
  readonly method: string;
  /** With its query, as it was sent. */
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** Milliseconds, of `performance.now()`. */
  readonly at: number;
  /** Status that was sent, null before. */
  readonly status: number | null;
  /** Body bytes handed to the connection so far. */
  readonly bytesSent: number;
  /** `left`: the client closed first. `cut`: this server did, as it was told. */
  readonly state: 'open' | 'done' | 'left' | 'cut';
}

/** A real HTTP server on 127.0.0.1 that fails as it is told. */
export interface FaultServer {
  /** As `http://127.0.0.1:1234`, without a final slash. */
  readonly url: string;
  /** Every request in order of arrival; the records go on changing while they are answered. */
  readonly requests: readonly RecordedRequest[];
  /** Connections accepted so far. */
  readonly connections: number;
  /** The requests of a path (a text with `?` is compared with the query, one without it without). */
  requestsTo(path: string | RegExp, method?: string): readonly RecordedRequest[];
  /**
   * Sets what a path answers. Of a list the n-th request gets the n-th entry, and the last one repeats.
   * The route set last is looked at first.
   */
  route(path: string | RegExp, behaviour: Behaviour | readonly Behaviour[]): void;
  /** Serves the files of a directory under their own paths. */
  static(directory: string): void;
  /** Drops all routes and recorded requests; the static directory stays. */
  reset(): void;
  /** Refuses connections, and breaks those that are open. */
  down(): Promise<void>;
  /** Listens on the same port again. */
  up(): Promise<void>;
  close(): Promise<void>;
}

interface Route {
  readonly path: string | RegExp;
  readonly behaviours: readonly Behaviour[];
  taken: number;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type Record_ = Mutable<RecordedRequest>;

/** Starts the server on an ephemeral port. Close it, or it keeps the process alive. */
export async function startFaultServer(options: FaultServerOptions = {}): Promise<FaultServer> {
  const requests: Record_[] = [];
  const routes: Route[] = [];
  const sockets = new Set<Socket>();
  let directory: string | null = null;
  let connections = 0;

  const behaviourOf = (path: string): Behaviour => {
    const route = routes.find((candidate) => matches(candidate.path, path));
    if (route === undefined) return options.fallback ?? {};
    const behaviour = route.behaviours[Math.min(route.taken, route.behaviours.length - 1)];
    route.taken += 1;
    return behaviour ?? {};
  };

  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    const path = request.url ?? '/';
    const record: Record_ = {
      method: request.method ?? 'GET',
      path,
      headers: request.headers,
      at: performance.now(),
      status: null,
      bytesSent: 0,
      state: 'open',
    };
    requests.push(record);
    response.on('close', () => {
      if (record.state === 'open') record.state = response.writableFinished ? 'done' : 'left';
    });
    response.on('error', () => undefined);
    const behaviour = behaviourOf(path);
    void openBody(behaviour.body, directory, path)
      .then((body) =>
        answer(request, response, record, behaviour, body, options.missingStatus ?? 404, sockets),
      )
      .catch((error: unknown) => {
        record.state = 'cut';
        response.destroy(error instanceof Error ? error : undefined);
      });
  };

  const server: Server =
    options.tls === undefined ? createHttpServer(onRequest) : createHttpsServer(options.tls, onRequest);
  server.keepAliveTimeout = 60_000;
  server.on('connection', (socket: Socket) => {
    connections += 1;
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  const listen = (port: number): Promise<void> =>
    new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, '127.0.0.1', () => {
        server.off('error', reject);
        resolve();
      });
    });
  const stop = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      for (const socket of sockets) socket.destroy();
    });

  await listen(0);
  const { port } = server.address() as AddressInfo;

  return {
    url: `${options.tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`,
    requests,
    get connections() {
      return connections;
    },
    requestsTo: (path, method) =>
      requests.filter(
        (request) => matches(path, request.path) && (method === undefined || request.method === method),
      ),
    route(path, behaviour) {
      const behaviours: readonly Behaviour[] = Array.isArray(behaviour) ? behaviour : [behaviour];
      routes.unshift({ path, behaviours, taken: 0 });
    },
    static(newDirectory) {
      directory = newDirectory;
    },
    reset() {
      routes.length = 0;
      requests.length = 0;
    },
    down: stop,
    up: () => listen(port),
    close: () => (server.listening ? stop() : Promise.resolve()),
  };
}

function matches(pattern: string | RegExp, path: string): boolean {
  if (pattern instanceof RegExp) return pattern.test(path);
  return pattern === (pattern.includes('?') ? path : path.split('?')[0]);
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  record: Record_,
  behaviour: Behaviour,
  content: OpenBody | null,
  missingStatus: number,
  sockets: ReadonlySet<Socket>,
): Promise<void> {
  if (behaviour.delayMs !== undefined) await sleep(behaviour.delayMs);
  if (behaviour.stallAt === 'headers') await (behaviour.until ?? new Promise<never>(() => undefined));
  if (behaviour.resetAt === 'headers') return reset(response, record, sockets);
  if (response.destroyed) return;

  const found = content ?? (await openBody(behaviour.status === undefined ? 'not here\n' : '', null, ''));
  if (found === null) return;
  const body =
    behaviour.contentEncoding === undefined ? found : await encoded(found, behaviour.contentEncoding);
  const status = behaviour.status ?? (content === null ? missingStatus : 200);
  const rangesKept = behaviour.ranges !== false && status === 200 && body.size !== null;
  const range = rangesKept ? parseRange(request.headers.range, body.size) : null;

  if (behaviour.contentEncoding !== undefined)
    response.setHeader('Content-Encoding', behaviour.contentEncoding);
  if (rangesKept) response.setHeader('Accept-Ranges', 'bytes');
  if (range === 'unsatisfiable') {
    response.writeHead(416, {
      'Content-Range': `bytes */${body.size}`,
      'Content-Length': 0,
      ...behaviour.headers,
    });
    record.status = 416;
    response.end();
    return;
  }
  const part = range ?? { start: 0, end: (body.size ?? Number.POSITIVE_INFINITY) - 1 };
  response.statusCode = range === null ? status : 206;
  if (range !== null) response.setHeader('Content-Range', `bytes ${part.start}-${part.end}/${body.size}`);
  setLength(
    response,
    behaviour.contentLength ?? 'exact',
    body.size === null ? null : part.end - part.start + 1,
  );
  for (const [name, value] of Object.entries(behaviour.headers ?? {})) response.setHeader(name, value);
  record.status = response.statusCode;
  if (request.method === 'HEAD' || status === 304 || status === 204) {
    response.end();
    return;
  }
  response.flushHeaders();

  const how = await send(
    response,
    record,
    faulty(body.open(part.start, part.end), part.start, behaviour),
    behaviour,
  );
  if (how === 'reset') return reset(response, record, sockets);
  if (how === 'end' && typeof behaviour.contentLength !== 'number') {
    response.end();
    return;
  }
  record.state = how === 'end' ? record.state : 'cut';
  response.socket?.end();
}

async function send(
  response: ServerResponse,
  record: Record_,
  body: AsyncIterable<Uint8Array>,
  { truncateAt, resetAt, bytesPerSecond }: Behaviour,
): Promise<'end' | 'cut' | 'reset'> {
  const begun = performance.now();
  const limit = Math.min(truncateAt ?? Infinity, typeof resetAt === 'number' ? resetAt : Infinity);
  const last = truncateAt !== undefined && truncateAt === limit ? 'cut' : 'reset';
  if (limit === 0) return last;
  for await (const whole of body) {
    if (response.destroyed) return 'end';
    const chunk = whole.subarray(0, limit - record.bytesSent);
    record.bytesSent += chunk.length;
    const flushed = response.write(chunk);
    if (record.bytesSent >= limit) {
      // Let the bytes reach the other side before the connection goes.
      await new Promise((resolve) => setTimeout(resolve, 20));
      return last;
    }
    if (!flushed) {
      await drained(response);
    }
    if (bytesPerSecond !== undefined) {
      await sleep(Math.max(0, (record.bytesSent / bytesPerSecond) * 1000 - (performance.now() - begun)));
    }
  }
  return 'end';
}

/** Resolves when more can be written, or when nobody is there any more to read it. */
export function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const go = (): void => {
      response.off('drain', go);
      response.off('close', go);
      resolve();
    };
    response.on('drain', go);
    response.on('close', go);
  });
}

function setLength(
  response: ServerResponse,
  kind: NonNullable<Behaviour['contentLength']>,
  length: number | null,
): void {
  if (typeof kind === 'number') response.setHeader('Content-Length', kind);
  else if (kind === 'exact' && length !== null) response.setHeader('Content-Length', length);
  else if (kind === 'close') {
    response.useChunkedEncodingByDefault = false;
    response.shouldKeepAlive = false;
  }
}

function reset(response: ServerResponse, record: Record_, sockets: ReadonlySet<Socket>): void {
  record.state = 'cut';
  const { socket } = response;
  // Under TLS it is the connection below that can be reset.
  const raw = [...sockets].find(({ remotePort }) => remotePort === socket?.remotePort);
  raw?.resetAndDestroy();
  socket?.destroy();
}
