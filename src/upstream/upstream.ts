import type { Clock } from '../platform.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { abortable } from './abortable.ts';
import { backoffMs, isRetryableStatus, retryAfterMs } from './backoff.ts';
import { basicAuthorization } from './basic-authorization.ts';
import { CacheInfoReader } from './cache-info-reading.ts';
import type { CacheInfoReading } from './cache-info-reading.ts';
import type { Circuit } from './circuit.ts';
import { InvalidAnswerError } from './invalid-answer.ts';
import { DeadlineError } from './race.ts';
import { blamesRequest } from './request-blame.ts';
import { leave } from './response-body.ts';
import type { UpstreamSettings } from './settings.ts';
import type { Exchanged, UpstreamRequest } from './upstream-request.ts';
import type { UpstreamMemory } from './upstream-memory.ts';
import { TransportError } from './transport.ts';
import type { Transport, TransportResponse } from './transport.ts';
import { baseUrl } from './upstream-url.ts';
import type { UpstreamConfig } from './upstream-url.ts';
import type { UpstreamFault, UpstreamStatus } from './upstreams.ts';

/** What every upstream shares. */
export interface UpstreamServices {
  readonly transport: Transport;
  readonly clock: Clock;
  random(): number;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly settings: UpstreamSettings;
  readonly memory: UpstreamMemory;
  /** Told of work that no answer waits for. */
  background(work: Promise<unknown>): void;
  /** Ends the work in the background. */
  readonly closing: AbortSignal;
}

export interface Credentials {
  readonly user: string;
  readonly password: string;
}

/** The priority of an upstream that says none: the one of cache.nixos.org, so that it ranks beside it. */
const UNKNOWN_PRIORITY = 40;

const MISSING = { kind: 'missing' } as const;

/** One upstream: its requests with credentials, retries and circuit, and what it says of itself. */
export class Upstream {
  /** Base URL without credentials. */
  readonly name: string;
  readonly allowUnsigned: boolean;
  readonly needsCredentials: boolean;
  readonly circuit: Circuit;

  readonly #services: UpstreamServices;
  readonly #configuredPriority: number | null;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #logger: Logger;
  readonly #cacheInfo: CacheInfoReader;
  #probe: Promise<void> | null = null;

  constructor(config: UpstreamConfig, credentials: Credentials | null, services: UpstreamServices) {
    this.name = baseUrl(config.url);
    this.allowUnsigned = config.allowUnsigned;
    this.needsCredentials = credentials !== null;
    const { circuit, cacheInfo } = services.memory.of(this.name);
    this.circuit = circuit;
    this.#services = services;
    this.#configuredPriority = config.priority;
    this.#logger = services.logger.with({ upstream: this.name });
    this.#cacheInfo = new CacheInfoReader({
      memory: cacheInfo,
      background: (reading) => services.background(reading),
      request: () =>
        this.#send('cache-info', {
          method: 'GET',
          url: this.urlOf('nix-cache-info'),
          signal: services.closing,
        }),
      now: () => services.clock.now(),
      ttlMs: services.settings.cacheInfoTtlMs,
      retryMs: services.settings.cacheInfoRetryMs,
      onReading: (reading) => this.#onCacheInfo(reading),
    });
    this.#headers = {
      // NARs are compressed already, and an encoding on top would hide their size.
      'accept-encoding': 'identity',
      ...(credentials === null ? {} : { authorization: basicAuthorization(credentials) }),
    };
  }

  /** What decides the order; lower is better. */
  get priority(): number {
    return this.#configuredPriority ?? this.#cacheInfo.priority ?? UNKNOWN_PRIORITY;
  }

  get status(): UpstreamStatus {
    return {
      url: this.name,
      priority: this.#configuredPriority ?? this.#cacheInfo.priority,
      circuit: this.circuit.state,
      allowUnsigned: this.allowUnsigned,
      lastFault: this.circuit.lastFault,
    };
  }

  /** Looks up the priority in the background if it matters and is not known, or not any more. */
  learnPriority(): void {
    if (this.#configuredPriority === null) this.#cacheInfo.refresh();
  }

  /**
   * Sends a probe in the background if one is due.
   *
   * @returns the probe on its way, null if there is none; it never rejects
   */
  probeIfDue(): Promise<void> | null {
    const { clock } = this.#services;
    if (this.circuit.takeProbe(clock.now())) {
      this.#probe = this.#cacheInfo.read().then((reading) => {
        this.#probe = null;
        if (reading.kind === 'fault') this.circuit.probeFailed(`${this.name} ${reading.reason}`, clock.now());
        else this.#answered();
      });
      this.#services.background(this.#probe);
    }
    return this.#probe;
  }

  /**
   * One request with its retries. A 404 or 410 is missing, a 403 where it can only mean that (law 5).
   * A fault counts against the circuit, unless the upstream blames the path of a NAR, which anybody may choose.
   *
   * @throws the signal's reason when it is aborted, unless that is a `DeadlineError`: that is a fault
   */
  async exchange<T>(request: UpstreamRequest<T>): Promise<Exchanged<T>> {
    if (this.circuit.state !== 'closed') return this.#fault('circuit-open', 'has failed too often lately');
    try {
      const outcome = await this.#attempts(request);
      if (outcome.kind === 'fault') this.#failed(outcome.fault);
      else this.#answered();
      const result = outcome.kind === 'refused' ? this.#refused(outcome.fault) : outcome;
      this.#count(request.kind, result.kind === 'read' ? 'ok' : result.kind);
      return result;
    } catch (error) {
      if (request.signal?.aborted !== true) throw error;
      if (!(error instanceof DeadlineError)) {
        this.#count(request.kind, 'cancelled');
        throw error;
      }
      const late = this.#fault('timeout', `did not answer: ${error.message}`);
      this.#failed(late.fault);
      this.#count(request.kind, 'fault');
      return late;
    }
  }

  async #attempts<T>(request: UpstreamRequest<T>): Promise<Exchanged<T> | Refused> {
    const { clock, settings } = this.#services;
    for (let attempt = 1; ; attempt += 1) {
      const result = await this.#attempt(request);
      if (result.kind !== 'retry') return result;
      const wait = result.afterMs ?? backoffMs(attempt, this.#services.random(), settings);
      const giveUp =
        attempt >= settings.attempts || wait > settings.retryAfterCapMs || this.circuit.state !== 'closed';
      if (giveUp) return { kind: 'fault', fault: result.fault };
      this.#logger.debug('Upstream is asked again', { attempt, waitMs: wait, reason: result.fault.message });
      await clock.sleep(wait, request.signal);
    }
  }

  async #attempt<T>(request: UpstreamRequest<T>): Promise<Exchanged<T> | Refused | Retry> {
    try {
      const response = await this.#send(request.kind, request);
      const { status } = response;
      if (status === 200 || status === 206 || status === 416) {
        return { kind: 'read', value: await request.read(response) };
      }
      await leave(response.body);
      if (status === 404 || status === 410) return MISSING;
      if (status === 403) return await this.#judgeForbidden(request.signal);
      const { fault } = this.#fault('status', `answered ${status}`);
      // The path of a NAR may be anybody's; that of a narinfo is of our own making.
      if (request.kind === 'nar' && blamesRequest(status)) return { kind: 'refused', fault };
      if (!isRetryableStatus(status)) return { kind: 'fault', fault };
      const afterMs = retryAfterMs(response.headers['retry-after'], this.#services.clock.now());
      return { kind: 'retry', fault, afterMs };
    } catch (error) {
      request.signal?.throwIfAborted();
      if (error instanceof InvalidAnswerError) return this.#fault('invalid-answer', error.message);
      if (!(error instanceof TransportError)) throw error;
      return { kind: 'retry', fault: this.#transportFault(error).fault, afterMs: null };
    }
  }

  /** A 403 means "missing" at a cache whose nix-cache-info may be read (S3 without ListBucket), else "go away". */
  async #judgeForbidden(signal: AbortSignal | undefined): Promise<Exchanged<never>> {
    const readable = await abortable(this.#cacheInfo.isReadable(), signal);
    return readable
      ? MISSING
      : this.#fault('status', 'answered 403, and its nix-cache-info cannot be read either');
  }

  /** A URL below this upstream's own; the relative one is taken byte for byte. */
  urlOf(relative: string): URL {
    return new URL(`${this.name}/${relative}`);
  }

  #send(
    kind: 'narinfo' | 'nar' | 'cache-info',
    request: Pick<UpstreamRequest<unknown>, 'method' | 'url' | 'headers' | 'signal'>,
  ): Promise<TransportResponse> {
    const { transport, settings } = this.#services;
    return transport.request({
      method: request.method,
      url: request.url,
      what: kind,
      headers: { ...this.#headers, ...request.headers },
      headersTimeoutMs: kind === 'nar' ? settings.narHeadersTimeoutMs : settings.narInfoHeadersTimeoutMs,
      idleTimeoutMs: settings.idleTimeoutMs,
      ...(request.signal === undefined ? {} : { signal: request.signal }),
    });
  }

  #onCacheInfo(reading: CacheInfoReading): void {
    this.#count('cache-info', { readable: 'ok', unreadable: 'missing', fault: 'fault' }[reading.kind]);
    if (reading.kind === 'readable') return;
    this.#logger.debug('The nix-cache-info of an upstream cannot be read', { reason: reading.reason });
  }

  #answered(): void {
    if (!this.circuit.answered()) return;
    this.#logger.info('Upstream answers again');
    this.#services.metrics.gauge('snowcap_upstream_circuit_open', 0, { upstream: this.name });
  }

  #failed(fault: UpstreamFault): void {
    this.#logger.warn('Upstream failed', { reason: fault.message });
    if (!this.circuit.failed(fault.message, this.#services.clock.now())) return;
    this.#logger.warn('Upstream is left alone for a while', { reason: fault.message });
    this.#services.metrics.gauge('snowcap_upstream_circuit_open', 1, { upstream: this.name });
  }

  /** No answer for the one who asked so, but no reason to leave the upstream alone (law 5). */
  #refused(fault: UpstreamFault): Fault {
    this.#logger.info('Upstream refuses a request', { reason: fault.message });
    return { kind: 'fault', fault };
  }

  #transportFault(error: TransportError): Fault {
    const reason = (
      {
        timeout: 'timeout',
        protocol: 'invalid-answer',
        connect: 'unreachable',
        broken: 'unreachable',
      } as const
    )[error.kind];
    return this.#fault(reason, `gave no answer: ${error.message}`);
  }

  #fault(reason: UpstreamFault['reason'], what: string): Fault {
    return { kind: 'fault', fault: { reason, message: `${this.name} ${what}` } };
  }

  #count(kind: 'narinfo' | 'nar' | 'cache-info', outcome: string): void {
    this.#services.metrics.count('snowcap_upstream_requests_total', { upstream: this.name, kind, outcome });
  }
}

interface Fault {
  readonly kind: 'fault';
  readonly fault: UpstreamFault;
}

/** The fault is the request's: the upstream itself is well. */
interface Refused {
  readonly kind: 'refused';
  readonly fault: UpstreamFault;
}

interface Retry {
  readonly kind: 'retry';
  readonly fault: UpstreamFault;
  /** What `Retry-After` asked for, in milliseconds; null where it did not. */
  readonly afterMs: number | null;
}
