import { X509Certificate } from 'node:crypto';
import { createSecureContext, getCACertificates } from 'node:tls';
import { Agent, EnvHttpProxyAgent, Pool, buildConnector } from 'undici';
import type { Dispatcher } from 'undici';
import { followRedirects } from './redirects.ts';
import { TransportError } from './transport.ts';
import type { Transport, TransportRequest, TransportResponse } from './transport.ts';
import { Exchange } from './undici-exchange.ts';

export interface UndiciTransportOptions {
  /** Sent with every request. */
  readonly userAgent: string;
  readonly proxy?: ProxySettings;
  /** PEM text of certificate authorities that are trusted besides the default ones. */
  readonly caBundle?: string;
  /** Milliseconds for the TCP and TLS handshakes. @default 5000 */
  readonly connectTimeoutMs?: number;
  /**
   * Connections to one origin; further requests wait for a free one, and waiting counts against their
   * deadline. So this is a guard against running out of sockets, not a tuning knob.
   *
   * @default 256
   */
  readonly maxConnectionsPerOrigin?: number;
  /**
   * How long an exchange that nobody waits for any more may go on in the background, so that its
   * connection can be used again: the losers of a race would otherwise cost a handshake each.
   *
   * @default 1000
   */
  readonly lingerMs?: number;
}

/** As the environment variables of these names have it, in the way that curl reads them. */
export interface ProxySettings {
  /** URL of the proxy for http upstreams. */
  readonly httpProxy?: string;
  /** URL of the proxy for https upstreams, which are reached through CONNECT. */
  readonly httpsProxy?: string;
  /** Hosts, `host:port`s and `.domain`s that are reached directly, separated by commas; `*` for all. */
  readonly noProxy?: string;
}

/** Just below the keep-alive of common servers, so that a connection is rarely closed as it is taken. */
const KEEP_ALIVE_MS = 15_000;

/**
 * The transport of Node, on undici: HTTP/1.1 with kept connections. HTTP/2 is left off: many bodies on
 * one connection share its fate and its window.
 *
 * @throws TypeError where a proxy is not an http or https URL
 * @throws Error where the CA bundle holds no certificate that can be read
 */
export function createUndiciTransport(options: UndiciTransportOptions): Transport {
  const lingerMs = options.lingerMs ?? 1000;
  const dispatchers = createDispatchers(options);

  const exchange = async (url: URL, request: TransportRequest, headers: Readonly<Record<string, string>>) => {
    const run = new Exchange(url.origin, lingerMs, request.signal);
    try {
      dispatchers[url.protocol === 'https:' ? 'https' : 'http'].dispatch(
        {
          origin: url.origin,
          path: url.pathname + url.search,
          method: request.method,
          headers,
          headersTimeout: request.headersTimeoutMs,
          bodyTimeout: request.idleTimeoutMs,
        },
        run,
      );
    } catch (error) {
      run.fail(new TransportError('connect', `Cannot send a request to ${url.origin}`, { cause: error }));
    }
    const { status, headers: answered } = await run.head;
    return { status, headers: answered, body: run };
  };

  return {
    async request(request): Promise<TransportResponse> {
      request.signal?.throwIfAborted();
      const headers = { 'user-agent': options.userAgent, ...request.headers };
      return await followRedirects(request, headers, (url, sent) => exchange(url, request, sent));
    },

    async close() {
      await Promise.all([dispatchers.http.destroy(), dispatchers.https.destroy()]);
    },
  };
}

function createDispatchers(options: UndiciTransportOptions): { http: Dispatcher; https: Dispatcher } {
  const timeout = options.connectTimeoutMs ?? 5000;
  const tls = options.caBundle === undefined ? {} : { secureContext: trusting(options.caBundle) };
  const connect = { allowH2: false, timeout, ...tls };
  const pool = {
    allowH2: false,
    pipelining: 1,
    connections: options.maxConnectionsPerOrigin ?? 256,
    keepAliveTimeout: KEEP_ALIVE_MS,
  };
  const settings = {
    ...pool,
    connectTimeout: timeout,
    factory: (origin: string | URL, given: { connect?: unknown }): Dispatcher => {
      const own = given.connect;
      const connector = isConnector(own) ? own : buildConnector(connect);
      return new Pool(origin, { ...pool, ...given, connect: whereResetIsNoEnd(connector) });
    },
  };
  const { httpProxy = '', httpsProxy = '', noProxy = '' } = options.proxy ?? {};
  assertProxyUrl('HTTP_PROXY', httpProxy);
  assertProxyUrl('HTTPS_PROXY', httpsProxy);
  const direct = new Agent(settings);
  // Empty texts keep undici from looking into the environment. One agent a scheme, because undici
  // would send https through the http proxy where no https proxy is given.
  const through = (proxies: { httpProxy: string; httpsProxy: string }): Dispatcher =>
    new EnvHttpProxyAgent({ ...settings, requestTls: connect, proxyTls: connect, ...proxies, noProxy });
  return {
    http: httpProxy === '' ? direct : through({ httpProxy, httpsProxy: '' }),
    https: httpsProxy === '' ? direct : through({ httpProxy: '', httpsProxy }),
  };
}

/** Whether undici brings a connector of its own: the one through the tunnel of a proxy. */
function isConnector(connect: unknown): connect is buildConnector.connector {
  return typeof connect === 'function';
}

/**
 * undici takes a reset connection for the end of a body that has no length and is not kept alive.
 * Under another code it is an error there too.
 */
function whereResetIsNoEnd(connect: buildConnector.connector): buildConnector.connector {
  return (options, callback) => {
    connect(options, (...outcome) => {
      const [, socket] = outcome;
      socket?.on('error', (error: NodeJS.ErrnoException) => {
        if (error.code === 'ECONNRESET') error.code = 'ECONNRESET_WITHIN';
      });
      callback(...outcome);
    });
  };
}

/** One context for all connections: reading the roots anew for each of them would cost milliseconds. */
function trusting(caBundle: string): ReturnType<typeof createSecureContext> {
  const certificates = caBundle.match(/-----BEGIN CERTIFICATE-----[^]*?-----END CERTIFICATE-----/g);
  if (certificates === null) throw new Error('Cannot read the CA bundle: it has no PEM certificate');
  for (const [index, certificate] of certificates.entries()) {
    try {
      // OpenSSL would pass over it in silence.
      new X509Certificate(certificate);
    } catch (error) {
      throw new Error(`Cannot read the CA bundle: certificate ${index + 1} is malformed`, { cause: error });
    }
  }
  return createSecureContext({ ca: [...getCACertificates('default'), ...certificates] });
}

function assertProxyUrl(name: string, proxy: string): void {
  if (proxy === '') return;
  if (URL.canParse(proxy) && /^https?:$/.test(new URL(proxy).protocol)) return;
  throw new TypeError(`Cannot use ${name}: expected a URL such as "http://proxy.example.org:3128"`);
}
