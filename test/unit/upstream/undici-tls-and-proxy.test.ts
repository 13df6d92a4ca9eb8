import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, request as httpRequest } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { connect } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { collect } from '../../../src/stream/byte-stream.ts';
import type { Transport, TransportResponse } from '../../../src/upstream/transport.ts';
import { createUndiciTransport } from '../../../src/upstream/undici-transport.ts';
import type { UndiciTransportOptions } from '../../../src/upstream/undici-transport.ts';
import { startFaultServer } from '../../support/fault-server.ts';
import type { FaultServer } from '../../support/fault-server.ts';

/** A proxy that tunnels (CONNECT) and forwards (absolute form), and remembers what it was asked. */
interface Proxy {
  readonly url: string;
  readonly host: string;
  readonly asked: string[];
  readonly authorization: (string | undefined)[];
  close(): Promise<void>;
}

async function startProxy(): Promise<Proxy> {
  const asked: string[] = [];
  const authorization: (string | undefined)[] = [];
  const sockets = new Set<Duplex>();
  const forward = (request: IncomingMessage, response: ServerResponse): void => {
    asked.push(`${request.method ?? ''} ${request.url ?? ''}`);
    authorization.push(request.headers['proxy-authorization']);
    httpRequest(request.url ?? '', { method: request.method, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.on('error', () => response.destroy());
      answer.pipe(response);
    }).end();
  };
  const server = createServer(forward);
  server.on('connection', (socket: Socket) => sockets.add(socket));
  server.on('connect', (request: IncomingMessage, client: Duplex) => {
    asked.push(`CONNECT ${request.url ?? ''}`);
    authorization.push(request.headers['proxy-authorization']);
    const [host, port] = (request.url ?? '').split(':');
    const upstream = connect(Number(port), host, () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n');
      client.pipe(upstream).pipe(client);
    });
    sockets.add(upstream);
    upstream.on('error', () => client.destroy());
    client.on('error', () => upstream.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    host: `127.0.0.1:${port}`,
    asked,
    authorization,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

let directory: string;
let ca: string;
let secure: FaultServer;
let plain: FaultServer;
let proxy: Proxy;
const transports: Transport[] = [];

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'snowcap-tls-'));
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: directory, stdio: 'pipe' });
  };
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl(
    'req',
    '-x509',
    ...curve,
    '-keyout',
    'ca.key',
    '-out',
    'ca.pem',
    '-subj',
    '/CN=Test CA',
    '-days',
    '2',
  );
  openssl(
    'req',
    ...curve,
    '-keyout',
    'key.pem',
    '-out',
    'csr.pem',
    '-subj',
    '/CN=127.0.0.1',
    '-addext',
    'subjectAltName=IP:127.0.0.1',
  );
  openssl(
    'x509',
    '-req',
    '-in',
    'csr.pem',
    '-CA',
    'ca.pem',
    '-CAkey',
    'ca.key',
    '-CAcreateserial',
    '-copy_extensions',
    'copyall',
    '-out',
    'cert.pem',
    '-days',
    '2',
  );
  const text = (name: string): string => readFileSync(join(directory, name), 'utf8');
  ca = text('ca.pem');
  secure = await startFaultServer({ tls: { key: text('key.pem'), cert: text('cert.pem') } });
  plain = await startFaultServer();
  proxy = await startProxy();
});

afterEach(async () => {
  await Promise.all(transports.splice(0).map((transport) => transport.close()));
  secure.reset();
  plain.reset();
  proxy.asked.length = 0;
  proxy.authorization.length = 0;
});

afterAll(async () => {
  await Promise.all([secure.close(), plain.close(), proxy.close()]);
  rmSync(directory, { recursive: true });
});

function transport(options: Partial<UndiciTransportOptions> = {}): Transport {
  const made = createUndiciTransport({ userAgent: 'snowcap-test', ...options });
  transports.push(made);
  return made;
}

function get(from: Transport, url: string): Promise<TransportResponse> {
  return from.request({
    method: 'GET',
    url: new URL(url),
    headers: {},
    headersTimeoutMs: 5000,
    idleTimeoutMs: 5000,
  });
}

async function text(from: Transport, url: string): Promise<string> {
  return new TextDecoder().decode(await collect((await get(from, url)).body, 1_000_000));
}

describe('Over TLS', () => {
  test('a server with a certificate of an unknown authority is a connect error', async () => {
    await expect(get(transport(), secure.url)).rejects.toMatchObject({
      name: 'TransportError',
      kind: 'connect',
    });
  });

  test('it is trusted with the CA bundle, on one kept connection or two', async () => {
    secure.route('/x', { body: 'secret garden' });
    const from = transport({ caBundle: ca });
    const before = secure.connections;
    for (let i = 0; i < 6; i += 1) expect(await text(from, `${secure.url}/x`)).toBe('secret garden');
    expect(secure.connections - before).toBeLessThanOrEqual(2);
  });

  test('a body that is cut throws', async () => {
    secure.route('/x', { body: 'x'.repeat(100_000), truncateAt: 50_000 });
    await expect(text(transport({ caBundle: ca }), `${secure.url}/x`)).rejects.toMatchObject({
      kind: 'broken',
    });
  });

  test.each(['', 'no certificate', '-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n'])(
    'a CA bundle that cannot be read (%j) is an error at once',
    (caBundle) => {
      expect(() => transport({ caBundle })).toThrow('Cannot read the CA bundle');
    },
  );
});

describe('A proxy', () => {
  test('for https is asked for a tunnel, and trusts the CA bundle within', async () => {
    secure.route('/x', { body: 'through' });
    const from = transport({ caBundle: ca, proxy: { httpsProxy: proxy.url } });
    expect(await text(from, `${secure.url}/x`)).toBe('through');
    expect(proxy.asked).toEqual([`CONNECT ${new URL(secure.url).host}`]);
    await expect(get(transport({ proxy: { httpsProxy: proxy.url } }), secure.url)).rejects.toMatchObject({
      kind: 'connect',
    });
  });

  test('for http is asked for the whole URL', async () => {
    plain.route('/x', { body: 'through' });
    const from = transport({ proxy: { httpProxy: proxy.url } });
    expect(await text(from, `${plain.url}/x?y=1`)).toBe('through');
    expect(proxy.asked).toEqual([`GET ${plain.url}/x?y=1`]);
  });

  test('for one scheme is not used for the other', async () => {
    secure.route('/x', { body: 'direct' });
    plain.route('/x', { body: 'direct' });
    expect(await text(transport({ caBundle: ca, proxy: { httpProxy: proxy.url } }), `${secure.url}/x`)).toBe(
      'direct',
    );
    expect(await text(transport({ proxy: { httpsProxy: proxy.url } }), `${plain.url}/x`)).toBe('direct');
    expect(proxy.asked).toEqual([]);
  });

  test.each(['127.0.0.1', '*', 'example.org, 127.0.0.1', ' 127.0.0.1 '])(
    'is not used for hosts in NO_PROXY=%s',
    async (noProxy) => {
      secure.route('/x', { body: 'direct' });
      plain.route('/x', { body: 'direct' });
      const from = transport({
        caBundle: ca,
        proxy: { httpProxy: proxy.url, httpsProxy: proxy.url, noProxy },
      });
      expect(await text(from, `${secure.url}/x`)).toBe('direct');
      expect(await text(from, `${plain.url}/x`)).toBe('direct');
      expect(proxy.asked).toEqual([]);
    },
  );

  test('is used for hosts that are not in NO_PROXY', async () => {
    plain.route('/x', { body: 'through' });
    const port = new URL(plain.url).port;
    const noProxy = `example.org,127.0.0.2,127.0.0.1:${Number(port) + 1}`;
    expect(await text(transport({ proxy: { httpProxy: proxy.url, noProxy } }), `${plain.url}/x`)).toBe(
      'through',
    );
    expect(proxy.asked).toHaveLength(1);
  });

  test('gets its own credentials, and the upstream does not', async () => {
    secure.route('/x', { body: 'through' });
    const from = transport({ caBundle: ca, proxy: { httpsProxy: `http://me:pw@${proxy.host}` } });
    expect(await text(from, `${secure.url}/x`)).toBe('through');
    expect(proxy.authorization).toEqual([`Basic ${btoa('me:pw')}`]);
    expect(secure.requests[0]?.headers['proxy-authorization']).toBeUndefined();
  });

  test('in the environment is not looked at', async () => {
    plain.route('/x', { body: 'direct' });
    const before = process.env['http_proxy'];
    process.env['http_proxy'] = proxy.url;
    try {
      expect(await text(transport(), `${plain.url}/x`)).toBe('direct');
      expect(await text(transport({ proxy: { httpsProxy: proxy.url } }), `${plain.url}/x`)).toBe('direct');
    } finally {
      if (before === undefined) delete process.env['http_proxy'];
      else process.env['http_proxy'] = before;
    }
    expect(proxy.asked).toEqual([]);
  });

  test('that nobody listens at is a transport error without its password', async () => {
    const gone = await startProxy();
    await gone.close();
    const from = transport({ caBundle: ca, proxy: { httpsProxy: `http://me:hunter2@${gone.host}` } });
    const error = await get(from, secure.url).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ name: 'TransportError', kind: 'connect' });
    expect(String(error)).not.toContain('hunter2');
  });

  test.each(['proxy.example.org:3128', 'socks5://h', 'http://'])(
    'of another kind (%s) is refused',
    (httpProxy) => {
      expect(() => transport({ proxy: { httpProxy } })).toThrow('Cannot use HTTP_PROXY');
    },
  );

  test.each([
    ['http', false],
    ['https', true],
  ])('does not make the end of a broken %s body without a length a clean one', async (_scheme, tls) => {
    const server = tls ? secure : plain;
    server.route('/x', { body: 'x'.repeat(100_000), contentLength: 'close', resetAt: 50_000 });
    const from = transport({ caBundle: ca });
    await expect(text(from, `${server.url}/x`)).rejects.toMatchObject({ kind: 'broken' });
  });
});
