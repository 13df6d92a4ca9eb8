import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { TestContext } from 'vitest';
import { collect } from '../../../src/stream/byte-stream.ts';
import { TransportError } from '../../../src/upstream/transport.ts';
import type { Transport, TransportRequest, TransportResponse } from '../../../src/upstream/transport.ts';
import { startFaultServer } from '../../support/fault-server.ts';
import type { FaultServer } from '../../support/fault-server.ts';

/** What a transport cannot do, with the reason. */
export interface UnsupportedFeatures {
  /** To tell a refused connection, a broken one and one that does not speak HTTP from each other before the headers. */
  readonly kindsBeforeHeaders?: string;
  /** To have a hand in which connections are kept. */
  readonly connections?: string;
  /** To be given the very signal of the test: it stands behind a bridge. */
  readonly ownSignal?: string;
}

/** A driver under the contract of `Transport`. */
export interface TransportContract {
  readonly name: string;
  /** With `snowcap-test` as its user agent. */
  create(): Transport;
  readonly unsupported?: UnsupportedFeatures;
}

const LARGE = new Uint8Array(3_000_000).map((_, index) => (index * 7919) % 251);

async function read(response: TransportResponse): Promise<string> {
  return new TextDecoder().decode(await collect(response.body, 10_000_000));
}

/** How many bytes came before the body ended, and how it ended. */
async function drain(response: TransportResponse): Promise<{ bytes: number; error: unknown }> {
  let bytes = 0;
  try {
    for await (const chunk of response.body) bytes += chunk.length;
    return { bytes, error: null };
  } catch (error) {
    return { bytes, error };
  }
}

/** Skips the test of a feature that the driver has declared not to have. */
function needs(t: TestContext, reason: string | undefined): void {
  if (reason !== undefined) t.skip(reason);
}

/** Every promise of the doc comments of `Transport`, as tests of one driver. */
export function testTransport({ name, create, unsupported = {} }: TransportContract): void {
  let server: FaultServer;
  let transport: Transport;

  beforeEach(async () => {
    server = await startFaultServer();
    transport = create();
  });

  afterEach(async () => {
    await transport.close();
    await server.close();
  });

  function get(path: string, extra: Partial<TransportRequest> = {}): Promise<TransportResponse> {
    return transport.request({
      method: 'GET',
      url: new URL(path, server.url),
      headers: {},
      headersTimeoutMs: 5000,
      idleTimeoutMs: 5000,
      ...extra,
    });
  }

  describe(`Transport: ${name}`, () => {
    describe('An answer', () => {
      test('comes with status, lower-case headers and body', async () => {
        server.route('/a', { body: 'hello', headers: { 'X-Odd': 'yes' } });
        const response = await get('/a', { headers: { 'X-Sent': 'this' } });
        expect(response.status).toBe(200);
        expect(response.headers['x-odd']).toBe('yes');
        expect(response.headers['content-length']).toBe('5');
        expect(await read(response)).toBe('hello');
        expect(server.requests[0]?.headers).toMatchObject({ 'user-agent': 'snowcap-test', 'x-sent': 'this' });
      });

      test('keeps the path and query byte for byte, escapes included', async () => {
        const path = '/nar/a%2Fb%20c.nar?hash=x%3Dy&z';
        server.route(/./, { body: 'ok' });
        await read(await get(path));
        expect(server.requests[0]?.path).toBe(path);
      });

      test('of a large body is the same bytes', async () => {
        server.route('/large', { body: LARGE });
        expect(await collect((await get('/large')).body, 10_000_000)).toEqual(LARGE);
      });

      test.each(['chunked', 'close'] as const)(
        'without a length (%s) is read to its end',
        async (contentLength) => {
          server.route('/large', { body: LARGE, contentLength });
          const response = await get('/large');
          expect(response.headers['content-length']).toBeUndefined();
          expect(await drain(response)).toEqual({ bytes: LARGE.length, error: null });
        },
      );

      test('to HEAD has an empty body', async () => {
        server.route('/a', { body: 'hello' });
        const response = await get('/a', { method: 'HEAD' });
        expect(response.headers['content-length']).toBe('5');
        expect(await read(response)).toBe('');
      });

      test('is not decoded', async () => {
        server.route('/a', { body: 'hello', contentEncoding: 'gzip' });
        const response = await get('/a');
        expect(response.headers['content-encoding']).toBe('gzip');
        expect([...(await collect(response.body, 1000)).subarray(0, 2)]).toEqual([0x1f, 0x8b]);
      });

      test('leaves its connection for the next request', async (t) => {
        needs(t, unsupported.connections);
        server.route(/./, { body: 'ok' });
        for (let i = 0; i < 8; i += 1) await read(await get(`/${i}`));
        // undici opens a second one where a request comes in the very turn in which the last one ended.
        expect(server.connections).toBeLessThanOrEqual(2);
      });
    });

    describe('A body that is not whole', () => {
      test.each([
        ['truncated with its length known', { body: LARGE, truncateAt: 100_000 }],
        ['truncated in chunked coding', { body: LARGE, truncateAt: 100_000, contentLength: 'chunked' }],
        ['reset', { body: LARGE, resetAt: 100_000 }],
        [
          'reset with its length known, on a connection that is not kept',
          { body: LARGE, resetAt: 100_000, headers: { Connection: 'close' } },
        ],
        [
          'truncated in chunked coding, on a connection that is not kept',
          { body: LARGE, truncateAt: 100_000, contentLength: 'chunked', headers: { Connection: 'close' } },
        ],
        [
          'reset while it is sent without a length',
          { body: LARGE, resetAt: 100_000, contentLength: 'close' },
        ],
        ['shorter than its Content-Length', { body: 'hello', contentLength: 9 }],
      ] as const)('throws when it is %s', async (_name, behaviour) => {
        server.route('/cut', behaviour);
        const { error } = await drain(await get('/cut'));
        expect(error).toBeInstanceOf(TransportError);
        expect((error as TransportError).kind).toBe('broken');
      });

      test('throws when it stands still', async () => {
        server.route('/still', { body: LARGE, stallAt: 100_000 });
        const { bytes, error } = await drain(await get('/still', { idleTimeoutMs: 100 }));
        expect(bytes).toBe(100_000);
        expect(error).toMatchObject({ name: 'TransportError', kind: 'timeout' });
      });

      test('does not throw because its consumer stands still', async () => {
        server.route('/large', { body: LARGE });
        const response = await get('/large', { idleTimeoutMs: 50 });
        await new Promise((resolve) => setTimeout(resolve, 300));
        expect(await drain(response)).toEqual({ bytes: LARGE.length, error: null });
      });
    });

    describe('No answer', () => {
      test('is a connect error where nobody listens, without the path of the URL', async () => {
        await server.down();
        const error = await get('/secret').catch((reason: unknown) => reason);
        expect(error).toMatchObject({ name: 'TransportError', kind: 'connect' });
        expect((error as Error).message).toContain(server.url);
        expect((error as Error).message).not.toContain('secret');
        await server.up();
        expect((await get('/')).status).toBe(404);
      });

      test('is a time-out where the headers do not come', async () => {
        server.route('/', { stallAt: 'headers' });
        await expect(get('/', { headersTimeoutMs: 100 })).rejects.toMatchObject({ kind: 'timeout' });
      });

      test('is a broken connection where it is reset', async (t) => {
        needs(t, unsupported.kindsBeforeHeaders);
        server.route('/', { resetAt: 'headers' });
        await expect(get('/')).rejects.toMatchObject({ kind: 'broken' });
      });

      test('is a protocol error where it is not HTTP', async (t) => {
        needs(t, unsupported.kindsBeforeHeaders);
        const { createServer } = await import('node:net');
        const plain = createServer((socket) => {
          socket.on('error', () => undefined);
          socket.on('data', () => socket.end('SSH-2.0-OpenSSH\r\n'));
        });
        await new Promise<void>((resolve) => plain.listen(0, '127.0.0.1', resolve));
        const address = plain.address();
        const port = typeof address === 'object' && address !== null ? address.port : 0;
        await expect(get(`http://127.0.0.1:${port}/`)).rejects.toMatchObject({ kind: 'protocol' });
        plain.close();
      });
    });

    describe('Back-pressure', () => {
      test('stops the server while nobody reads', async () => {
        let produced = 0;
        const piece = new Uint8Array(64 * 1024);
        server.route('/endless', {
          body: {
            size: null,
            *generate() {
              for (let i = 0; i < 4000; i += 1) {
                produced += piece.length;
                yield piece;
              }
            },
          },
        });
        const response = await get('/endless');
        const iterator = response.body[Symbol.asyncIterator]();
        await iterator.next();
        await new Promise((resolve) => setTimeout(resolve, 300));
        // What the two kernels' socket buffers take, and far from the 256 MB that there are.
        expect(produced).toBeLessThan(32_000_000);
        await iterator.return?.();
      });
    });

    describe('Leaving', () => {
      test('a large body before it was begun breaks the connection', async () => {
        server.route('/large', { body: LARGE, bytesPerSecond: 200_000 });
        const response = await get('/large');
        await response.body[Symbol.asyncIterator]().return?.();
        await vi.waitFor(() => expect(server.requests[0]?.state).toBe('left'));
      });

      test('a large body in its middle breaks the connection', async () => {
        server.route('/large', { body: LARGE, bytesPerSecond: 400_000 });
        for await (const chunk of (await get('/large')).body) if (chunk.length > 0) break;
        await vi.waitFor(() => expect(server.requests[0]?.state).toBe('left'));
      });

      test('a small body keeps the connection', async (t) => {
        needs(t, unsupported.connections);
        server.route('/small', { body: 'x'.repeat(2000), stallAt: 1000, until: Promise.resolve() });
        for (let i = 0; i < 3; i += 1) await (await get('/small')).body[Symbol.asyncIterator]().return?.();
        await vi.waitFor(() => expect(server.requests.every(({ state }) => state === 'done')).toBe(true));
        await read(await get('/small'));
        expect(server.connections).toBeLessThanOrEqual(3);
      });
    });

    describe('Aborting', () => {
      test('before the request was made rejects with the reason and sends nothing', async () => {
        const reason = new Error('not wanted');
        await expect(get('/', { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
        expect(server.requests).toHaveLength(0);
      });

      test('before the headers rejects at once with the reason, and the server sees it leave soon', async (t) => {
        needs(t, unsupported.ownSignal);
        server.route('/', { stallAt: 'headers' });
        const controller = new AbortController();
        const answer = get('/', { signal: controller.signal });
        await vi.waitFor(() => expect(server.requests).toHaveLength(1));
        const reason = new Error('lost the race');
        controller.abort(reason);
        await expect(answer).rejects.toBe(reason);
        await vi.waitFor(() => expect(server.requests[0]?.state).toBe('left'), { timeout: 3000 });
      });

      test('before the headers of a small answer keeps the connection for the next request', async (t) => {
        needs(t, unsupported.connections);
        const go = Promise.withResolvers<void>();
        server.route('/slow', { body: 'small', stallAt: 'headers', until: go.promise });
        server.route('/next', { body: 'next' });
        const controller = new AbortController();
        const answer = get('/slow', { signal: controller.signal });
        await vi.waitFor(() => expect(server.requests).toHaveLength(1));
        controller.abort(new Error('lost the race'));
        await expect(answer).rejects.toThrow('lost the race');
        go.resolve();
        await vi.waitFor(() => expect(server.requests[0]?.state).toBe('done'));
        expect(await read(await get('/next'))).toBe('next');
        expect(server.connections).toBe(1);
      });

      test('within a body makes it throw the reason', async () => {
        server.route('/large', { body: LARGE, bytesPerSecond: 400_000 });
        const controller = new AbortController();
        const response = await get('/large', { signal: controller.signal });
        const reason = new Error('enough');
        const seen = drain(response);
        await vi.waitFor(() => expect(server.requests[0]?.bytesSent).toBeGreaterThan(0));
        controller.abort(reason);
        expect((await seen).error).toBe(reason);
        await vi.waitFor(() => expect(server.requests[0]?.state).toBe('left'));
      });

      test('after the end changes nothing and leaves no listener', async (t) => {
        needs(t, unsupported.ownSignal);
        server.route('/', { body: 'ok' });
        const controller = new AbortController();
        const removed = vi.spyOn(controller.signal, 'removeEventListener');
        const response = await get('/', { signal: controller.signal });
        expect(await read(response)).toBe('ok');
        expect(removed).toHaveBeenCalledWith('abort', expect.any(Function));
      });
    });

    describe('A redirect', () => {
      test.each([301, 302, 303, 307, 308])('with %i is followed', async (status) => {
        server.route('/from', { status, headers: { Location: '/to?x=1' } });
        server.route('/to', { body: 'there' });
        expect(await read(await get('/from'))).toBe('there');
        expect(server.requests[1]?.path).toBe('/to?x=1');
      });

      test('within the origin keeps the credentials', async () => {
        server.route('/from', { status: 302, headers: { Location: '/to' } });
        server.route('/to', { body: 'there' });
        await read(await get('/from', { headers: { authorization: 'Basic abc' } }));
        expect(server.requests[1]?.headers['authorization']).toBe('Basic abc');
      });

      test('to another origin drops the credentials for good, and keeps the other headers', async () => {
        const other = await startFaultServer();
        server.route('/from', { status: 302, headers: { Location: `${other.url}/middle` } });
        other.route('/middle', { status: 302, headers: { Location: `${server.url}/end` } });
        server.route('/end', { body: 'end' });
        await read(await get('/from', { headers: { Authorization: 'Basic abc', range: 'bytes=0-1' } }));
        expect(other.requests[0]?.headers['authorization']).toBeUndefined();
        expect(other.requests[0]?.headers['range']).toBe('bytes=0-1');
        expect(server.requests[1]?.path).toBe('/end');
        expect(server.requests[1]?.headers['authorization']).toBeUndefined();
        await other.close();
      });

      test('is followed ten times and not more', async () => {
        server.route(/^\/hop/, { status: 302, headers: { Location: '/hop' } });
        await expect(get('/hop')).rejects.toMatchObject({ kind: 'protocol' });
        expect(server.requests).toHaveLength(11);
      });

      test('to another scheme is refused', async () => {
        server.route('/', { status: 302, headers: { Location: 'file:///etc/passwd' } });
        await expect(get('/')).rejects.toMatchObject({ kind: 'protocol' });
      });

      test('without a Location is an answer like any other', async () => {
        server.route('/', { status: 304 });
        expect((await get('/')).status).toBe(304);
      });
    });

    describe('At 50 requests in flight', () => {
      test('every body is whole, and closing the transport breaks what is open', async () => {
        server.route('/large', { body: LARGE });
        const all = await Promise.all(Array.from({ length: 50 }, async () => drain(await get('/large'))));
        expect(all).toEqual(Array.from({ length: 50 }, () => ({ bytes: LARGE.length, error: null })));
        server.route('/still', { body: LARGE, stallAt: 1000 });
        const open = drain(await get('/still'));
        await transport.close();
        expect((await open).error).toBeInstanceOf(TransportError);
      });
    });
  });
}
