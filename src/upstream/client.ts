import { DEFAULT_STORE_DIR } from '../nix/store-path.ts';
import type { Clock } from '../platform.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { redactUrl } from '../telemetry/redact.ts';
import { Fleet, circuitsOpen } from './fleet.ts';
import { readNarInfoResponse } from './nar-info-response.ts';
import { rangeHeader, readNarResponse } from './nar-response.ts';
import type { NarAnswer } from './nar-response.ts';
import { race } from './race.ts';
import type { Contender, Verdict } from './race.ts';
import { leave } from './response-body.ts';
import { DEFAULT_UPSTREAM_SETTINGS } from './settings.ts';
import type { UpstreamSettings } from './settings.ts';
import type { Transport } from './transport.ts';
import { Upstream } from './upstream.ts';
import { createUpstreamMemory } from './upstream-memory.ts';
import type { UpstreamMemory } from './upstream-memory.ts';
import type { Credentials, UpstreamServices } from './upstream.ts';
import type { Exchanged } from './upstream-request.ts';
import { ownCredentials } from './upstream-url.ts';
import type { UpstreamConfig } from './upstream-url.ts';
import type {
  Acceptance,
  FindResult,
  NarInfoOffer,
  NarLocation,
  OpenedNar,
  OpenNarOptions,
  Upstreams,
} from './upstreams.ts';

export interface UpstreamsOptions {
  /** In the order of the configuration: among equal priorities the earlier one is better. */
  readonly upstreams: readonly UpstreamConfig[];
  /** Stays the caller's to close. */
  readonly transport: Transport;
  readonly clock: Clock;
  /** A number in [0, 1), for jitter. */
  random(): number;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** @default '/nix/store' */
  readonly storeDir?: string;
  /** Asked for upstreams whose URL has no credentials of its own; from a netrc file, for example. */
  readonly credentials?: (url: URL) => Credentials | null;
  readonly settings?: Partial<UpstreamSettings>;
  /**
   * What this process remembers: to be given where there is a client for each request.
   *
   * @default a memory of its own
   */
  readonly memory?: UpstreamMemory;
  /**
   * Told of work that no answer waits for (it never rejects), where the runtime would otherwise end it with the
   * request.
   */
  readonly background?: (work: Promise<unknown>) => void;
}

/**
 * The client of the upstreams. It does no I/O until it is asked, so that it can be made with every upstream
 * down, and has no timers while nothing is asked.
 *
 * The order of the upstreams: the configured priority, else that of the upstream's own nix-cache-info (read
 * in the background of the first request), else 40 until that is known, which is what cache.nixos.org says of
 * itself; among equals the order of the configuration.
 *
 * @throws TypeError if two upstreams have the same base URL
 */
export function createUpstreams(options: UpstreamsOptions): Upstreams {
  const closing = new AbortController();
  const settings = { ...DEFAULT_UPSTREAM_SETTINGS, ...options.settings };
  const services: UpstreamServices = {
    transport: options.transport,
    clock: options.clock,
    random: () => options.random(),
    logger: options.logger,
    metrics: options.metrics,
    settings,
    memory: options.memory ?? createUpstreamMemory(settings, () => options.random()),
    background: options.background ?? (() => undefined),
    closing: closing.signal,
  };
  const upstreams = options.upstreams.map(
    (config) =>
      new Upstream(config, ownCredentials(config.url) ?? options.credentials?.(config.url) ?? null, services),
  );
  return new RacingUpstreams(new Fleet(upstreams), services, options.storeDir ?? DEFAULT_STORE_DIR, closing);
}

class RacingUpstreams implements Upstreams {
  readonly #fleet: Fleet;
  readonly #services: UpstreamServices;
  readonly #storeDir: string;
  readonly #closing: AbortController;

  constructor(fleet: Fleet, services: UpstreamServices, storeDir: string, closing: AbortController) {
    this.#fleet = fleet;
    this.#services = services;
    this.#storeDir = storeDir;
    this.#closing = closing;
  }

  async findNarInfo<Accepted>(
    hash: string,
    accept: (offer: NarInfoOffer) => Promise<Acceptance<Accepted>>,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<FindResult<Accepted>> {
    const { clock, settings } = this.#services;
    const upstreams = await this.#fleet.counting();
    const result = await race(
      upstreams.map((upstream) =>
        this.#contender(upstream, (signal) => this.#offer(upstream, hash, accept, signal)),
      ),
      {
        clock,
        hedgeMs: settings.hedgeMs,
        start: 'together',
        deadlineMs: settings.narInfoDeadlineMs,
        signal: options.signal,
      },
    );
    if (result.kind === 'won') {
      return { kind: 'found', value: result.value, upstream: upstreams[result.index]?.name ?? '' };
    }
    const fault = this.#fleet.fault(result, upstreams.length);
    return fault === null ? { kind: 'missing', refused: result.reasons } : { kind: 'fault', fault };
  }

  /** Asks one upstream for the narinfo and offers it. */
  async #offer<Accepted>(
    upstream: Upstream,
    hash: string,
    accept: (offer: NarInfoOffer) => Promise<Acceptance<Accepted>>,
    signal: AbortSignal,
  ): Promise<Verdict<Accepted>> {
    const result = await upstream.exchange({
      kind: 'narinfo',
      method: 'GET',
      url: upstream.urlOf(`${hash}.narinfo`),
      signal,
      read: (response) => readNarInfoResponse(response, hash, this.#storeDir),
    });
    upstream.circuit.inTime();
    if (result.kind === 'fault') return result;
    if (result.kind === 'missing') return { kind: 'no', reason: null };
    const answer = result.value;
    const acceptance: Acceptance<Accepted> =
      answer.kind === 'refused'
        ? { accepted: false, reason: answer.reason }
        : await accept({ info: answer.info, upstream: upstream.name, allowUnsigned: upstream.allowUnsigned });
    if (acceptance.accepted) return { kind: 'yes', value: acceptance.value };
    if (acceptance.reason === null) return { kind: 'no', reason: null };
    const reason = `${upstream.name}: ${acceptance.reason}`;
    this.#services.logger.warn('Narinfo is refused', {
      upstream: upstream.name,
      hash,
      reason: acceptance.reason,
    });
    return { kind: 'no', reason };
  }

  async openNar(
    source: { readonly upstream: string; readonly url: string },
    options: OpenNarOptions = {},
  ): Promise<OpenedNar> {
    const upstream = this.#fleet.get(source.upstream);
    // Not configured any more: it does not count, so this place says no.
    if (upstream === undefined) return { kind: 'missing' };
    const [counts] = await this.#fleet.counting([upstream]);
    if (counts === undefined) return { kind: 'fault', fault: circuitsOpen([upstream]) };
    options.signal?.throwIfAborted();
    const url = narUrl(upstream, source.url);
    if (url === null) {
      const message = `${upstream.name} names a NAR outside of itself: ${JSON.stringify(redactUrl(source.url))}`;
      return { kind: 'fault', fault: { reason: 'invalid-answer', message } };
    }
    const result = await this.#open(upstream, url, options);
    return result.kind === 'read' ? result.value : result;
  }

  /**
   * The upstreams are asked one after the other, each after the answer or the hedge of the one before it: most
   * often the best one has it, and that costs one request and one body.
   */
  async findNar(path: string, options: OpenNarOptions = {}): Promise<OpenedNar> {
    const { clock, settings } = this.#services;
    const upstreams = await this.#fleet.counting();
    const ask = async (upstream: Upstream, signal: AbortSignal): Promise<Verdict<NarAnswer>> => {
      const url = narUrl(upstream, path);
      if (url === null) return { kind: 'no', reason: null };
      const result = await this.#open(upstream, url, { ...options, signal });
      if (result.kind === 'missing') return { kind: 'no', reason: null };
      return result.kind === 'read' ? { kind: 'yes', value: result.value } : result;
    };
    const result = await race(
      upstreams.map((upstream) => ({
        ...this.#contender(upstream, (signal) => ask(upstream, signal)),
        discard: (answer: NarAnswer) => {
          if (answer.kind === 'found') void leave(answer.body);
        },
      })),
      { clock, hedgeMs: settings.hedgeMs, start: 'staggered', signal: options.signal },
    );
    if (result.kind === 'won') return result.value;
    const fault = this.#fleet.fault(result, upstreams.length);
    return fault === null ? { kind: 'missing' } : { kind: 'fault', fault };
  }

  #open(upstream: Upstream, url: URL, options: OpenNarOptions): Promise<Exchanged<NarAnswer>> {
    const method = options.method ?? 'GET';
    // RFC 9110 §14.2: a Range means something for GET only.
    const range = method === 'GET' ? options.range : undefined;
    return upstream.exchange({
      kind: 'nar',
      method,
      url,
      ...(range === undefined ? {} : { headers: { range: rangeHeader(range) } }),
      signal: options.signal,
      read: (response) => readNarResponse(response, upstream.name, method, range),
    });
  }

  #contender<T>(upstream: Upstream, ask: (signal: AbortSignal) => Promise<Verdict<T>>): Contender<T> {
    const { clock } = this.#services;
    return {
      ask,
      worthWaiting: !upstream.circuit.isTardy(clock.now()),
      lostHedge: () => upstream.circuit.lostHedge(clock.now()),
    };
  }

  publicUrl({ upstream: name, url: relative }: NarLocation): string | null {
    const upstream = this.#fleet.get(name);
    if (upstream === undefined || upstream.needsCredentials) return null;
    const url = narUrl(upstream, relative)?.href ?? null;
    return url === null || redactUrl(url) !== url ? null : url;
  }

  status(): ReturnType<Upstreams['status']> {
    return this.#fleet.all.map((upstream) => upstream.status);
  }

  close(): Promise<void> {
    this.#closing.abort(new Error('The upstreams are closed'));
    return Promise.resolve();
  }
}

/** The place of a NAR below the upstream, escapes and query kept; null where it leads out of it. */
function narUrl(upstream: Upstream, relative: string): URL | null {
  const base = `${upstream.name}/`;
  if (/[\\#\s]/.test(relative) || !URL.canParse(base + relative)) return null;
  const url = upstream.urlOf(relative);
  return url.href.startsWith(base) && url.href.length > base.length ? url : null;
}
