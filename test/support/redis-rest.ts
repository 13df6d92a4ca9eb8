import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient, ErrorReply, MultiErrorReply } from '@redis/client';

/** What goes wrong with a request. */
export type RestFault =
  /** Executed at once, answered after so many milliseconds. */
  | { readonly kind: 'late'; readonly milliseconds: number }
  /** Executed and answered after so many milliseconds: the caller may have given up by then. */
  | { readonly kind: 'delayed'; readonly milliseconds: number }
  /** Executed twice, as a proxy in between may do; answered as the second one. */
  | { readonly kind: 'twice' }
  /** Executed; the connection breaks before the answer. */
  | { readonly kind: 'lost' }
  /** Executed, never answered. */
  | { readonly kind: 'silent' }
  /** Not executed; the connection breaks. */
  | { readonly kind: 'refused' }
  /** Not executed; answered with this status. */
  | { readonly kind: 'status'; readonly status: number }
  /** Not executed; answered with this body and status 200. */
  | { readonly kind: 'body'; readonly body: string };

export interface RedisRest {
  /** As in `UPSTASH_REDIS_REST_URL`. */
  readonly url: string;
  readonly token: string;
  /** Every command that came in, also those that met a fault, in order. */
  readonly commands: readonly (readonly string[])[];
  /** Requests that were not answered yet. */
  readonly underWay: number;
  /**
   * From now on decides of each request, by its first command, what goes wrong with it; null: nothing. Default null.
   */
  fault: ((command: readonly string[]) => RestFault | null) | null;
  close(): Promise<void>;
}

const MOST_BODY_BYTES = 1024 * 1024;

/**
 * The REST protocol of Upstash in front of a real Redis, on a free port of 127.0.0.1: `POST /` with one command as a
 * JSON array, `/pipeline` and `/multi-exec` with an array of them; `Authorization: Bearer`; `Upstash-Encoding: base64`;
 * errors as `{"error": …}`. (https://upstash.com/docs/redis/features/restapi)
 *
 * @param url of the Redis, with its password
 */
export async function startRedisRest(url: string, token = 'rest-token'): Promise<RedisRest> {
  const commands: (readonly string[])[] = [];
  let underWay = 0;
  const redis = createClient({
    url,
    RESP: 2,
    disableOfflineQueue: true,
    socket: { reconnectStrategy: () => 20 },
  });
  redis.on('error', () => undefined);
  await redis.connect();

  async function execute(command: readonly string[]): Promise<RestAnswer> {
    try {
      return { result: await redis.sendCommand([...command]) };
    } catch (error) {
      return { error: redisError(error) };
    }
  }

  async function transaction(
    list: readonly (readonly string[])[],
  ): Promise<readonly RestAnswer[] | RestAnswer> {
    const multi = redis.multi();
    for (const command of list) multi.addCommand([...command]);
    try {
      return (await multi.exec()).map((result: unknown) => ({ result }));
    } catch (error) {
      if (!(error instanceof MultiErrorReply)) return { error: redisError(error) };
      return error.replies.map((result: unknown) =>
        result instanceof Error ? { error: result.message } : { result },
      );
    }
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const send = (status: number, body: unknown): void => {
      const text = typeof body === 'string' ? body : JSON.stringify(body);
      response.writeHead(status, { 'Content-Type': 'application/json' }).end(text);
    };
    const body = await bodyOf(request);
    if (request.headers.authorization !== `Bearer ${token}`) {
      send(401, { error: 'WRONGPASS invalid or missing auth token' });
      return;
    }
    if (request.method !== 'POST' || !['/', '/pipeline', '/multi-exec'].includes(request.url ?? '')) {
      send(404, { error: `ERR no such endpoint: ${request.method} ${request.url}` });
      return;
    }
    const list = commandsOf(body, request.url === '/');
    const [first] = list ?? [];
    if (list === null || first === undefined) {
      send(400, { error: 'ERR failed to parse the commands' });
      return;
    }
    commands.push(...list);
    const run = async (): Promise<readonly RestAnswer[] | RestAnswer> => {
      if (request.url === '/multi-exec') return await transaction(list);
      const answers: RestAnswer[] = [];
      for (const command of list) answers.push(await execute(command));
      return request.url === '/' ? (answers[0] ?? {}) : answers;
    };
    const fault = server.fault?.(first) ?? null;
    if (fault?.kind === 'refused') return void request.socket.destroy();
    if (fault?.kind === 'status') return send(fault.status, { error: `fault ${fault.status}` });
    if (fault?.kind === 'body') return send(200, fault.body);
    if (fault?.kind === 'delayed') await sleep(fault.milliseconds);
    if (fault?.kind === 'twice') await run();
    const result = await run();
    if (fault?.kind === 'lost') return void request.socket.destroy();
    if (fault?.kind === 'silent') return;
    if (fault?.kind === 'late') await sleep(fault.milliseconds);
    const base64 = request.headers['upstash-encoding'] === 'base64';
    if (isList(result))
      return send(
        200,
        result.map((each) => encoded(each, base64)),
      );
    const status = result.error === undefined ? 200 : result.error === UNREACHABLE ? 503 : 400;
    send(status, encoded(result, base64));
  }

  const http = createServer((request, response) => {
    underWay += 1;
    response.once('close', () => (underWay -= 1));
    answer(request, response).catch(() => request.socket.destroy());
  });
  const server: RedisRest = {
    url: await listen(http),
    token,
    commands,
    get underWay() {
      return underWay;
    },
    fault: null,
    async close() {
      http.closeAllConnections();
      await new Promise<void>((resolve) => http.close(() => resolve()));
      redis.destroy();
    },
  };
  return server;
}

interface RestAnswer {
  readonly result?: unknown;
  readonly error?: string;
}

const UNREACHABLE = 'the database cannot be reached';

function redisError(error: unknown): string {
  return error instanceof ErrorReply ? error.message : UNREACHABLE;
}

/** Null where it is none of what the protocol has. */
function commandsOf(body: string, single: boolean): readonly (readonly string[])[] | null {
  try {
    const value: unknown = JSON.parse(body);
    const list: unknown = single ? [value] : value;
    if (!isList(list)) return null;
    const commands = list.map((command) =>
      isList(command) && command.length > 0 ? command.map(String) : null,
    );
    return commands.every((command) => command !== null) ? commands : null;
  } catch {
    return null;
  }
}

function isList(value: unknown): value is readonly unknown[] {
  return Array.isArray(value);
}

/** Strings as base64, but for an `OK` that is all of the result. */
function encoded(answer: RestAnswer, base64: boolean): RestAnswer {
  const encode = (value: unknown): unknown => {
    if (isList(value)) return value.map(encode);
    return typeof value === 'string' ? btoa(String.fromCharCode(...new TextEncoder().encode(value))) : value;
  };
  const plain = !base64 || answer.error !== undefined || answer.result === 'OK';
  return plain ? answer : { result: encode(answer.result) };
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let text = '';
  request.setEncoding('utf8');
  for await (const piece of request) {
    text += String(piece);
    if (text.length > MOST_BODY_BYTES) throw new Error('The body is too large');
  }
  return text;
}

async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('No port');
  return `http://127.0.0.1:${address.port}`;
}
