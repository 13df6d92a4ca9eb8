import type { Clock } from '../../../src/platform.ts';
import { streamOf } from '../../../src/stream/byte-stream.ts';
import type { ByteStream } from '../../../src/stream/byte-stream.ts';
import type { Logger } from '../../../src/telemetry/logger.ts';
import type { Metrics } from '../../../src/telemetry/metrics.ts';
import { createUpstreams } from '../../../src/upstream/client.ts';
import type { UpstreamsOptions } from '../../../src/upstream/client.ts';
import type { Transport, TransportRequest, TransportResponse } from '../../../src/upstream/transport.ts';
import { parseUpstreamUrl } from '../../../src/upstream/upstream-url.ts';
import type { NarInfoOffer, Upstreams } from '../../../src/upstream/upstreams.ts';

/** Lets everything run that waits for nothing but other promises. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** Time that stands still until it is told to go on. */
export class FakeClock implements Clock {
  #now = Date.UTC(2026, 0, 1);
  readonly #timers = new Set<{ readonly at: number; readonly ring: () => void }>();

  now(): number {
    return this.#now;
  }

  sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(signal.reason as Error);
      const timer = { at: this.#now + milliseconds, ring: resolve };
      this.#timers.add(timer);
      signal?.addEventListener('abort', () => {
        this.#timers.delete(timer);
        reject(signal.reason as Error);
      });
    });
  }

  /** Timers that wait. */
  get waiting(): number {
    return this.#timers.size;
  }

  /** Lets time pass, timer by timer. */
  async advance(milliseconds: number): Promise<void> {
    const until = this.#now + milliseconds;
    await settle();
    for (;;) {
      const [next] = [...this.#timers].filter(({ at }) => at <= until).sort((a, b) => a.at - b.at);
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#now = next.at;
      next.ring();
      await settle();
    }
    this.#now = until;
  }
}

export interface Answer {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array | ByteStream;
}

/** An answer, an error, or a promise of one of them; `'hang'` never answers. */
export type Script = Answer | Error | 'hang' | Promise<Answer | Error>;

export interface SeenRequest {
  readonly url: string;
  readonly request: TransportRequest;
  aborted: boolean;
  /** Whether the body was read to its end or left. */
  bodyDone: boolean;
}

/** A transport that answers from a script: per URL a list of answers, of which the last one repeats. */
export class FakeTransport implements Transport {
  readonly #all: SeenRequest[] = [];
  readonly #scripts = new Map<string, Script[]>();

  answer(url: string, ...scripts: Script[]): void {
    this.#scripts.set(url, scripts);
  }

  to(url: string): SeenRequest[] {
    return this.#all.filter((seen) => seen.url === url);
  }

  /** All requests but those for nix-cache-info, which come in the background. */
  get seen(): readonly SeenRequest[] {
    return this.#all.filter((seen) => !seen.url.endsWith('/nix-cache-info'));
  }

  async request(request: TransportRequest): Promise<TransportResponse> {
    const { signal } = request;
    signal?.throwIfAborted();
    const seen: SeenRequest = { url: request.url.href, request, aborted: false, bodyDone: false };
    this.#all.push(seen);
    const aborted = new Promise<never>((_, reject) => {
      signal?.addEventListener('abort', () => {
        seen.aborted = true;
        reject(signal.reason as Error);
      });
    });
    aborted.catch(() => undefined);
    const scripts = this.#scripts.get(seen.url) ?? [{ status: 404 }];
    const script = (scripts.length > 1 ? scripts.shift() : scripts[0]) ?? { status: 404 };
    const answer = await Promise.race([
      script === 'hang' ? new Promise<never>(() => undefined) : script,
      aborted,
    ]);
    if (answer instanceof Error) throw answer;
    const { status = 200, headers = {}, body = '' } = answer;
    const bytes = typeof body === 'string' ? new TextEncoder().encode(body) : body;
    const length = bytes instanceof Uint8Array ? { 'content-length': String(bytes.length) } : {};
    return {
      status,
      headers: { ...length, ...headers },
      body: watched(bytes instanceof Uint8Array ? streamOf(bytes) : bytes, seen),
    };
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

function watched(body: ByteStream, seen: SeenRequest): ByteStream {
  const source = body[Symbol.asyncIterator]();
  return {
    [Symbol.asyncIterator]: () => ({
      async next() {
        const item = await source.next();
        if (item.done === true) seen.bodyDone = true;
        return item;
      },
      async return() {
        seen.bodyDone = true;
        await source.return?.();
        return { done: true, value: undefined };
      },
    }),
  };
}

/** Everything that was logged, as text: for secrets that must not be there. */
function recordingLogger(lines: string[], fields: object = {}): Logger {
  const add =
    (level: string) =>
    (message: string, more: object = {}): void => {
      lines.push(`${level} ${message} ${JSON.stringify({ ...fields, ...more })}`);
    };
  return {
    debug: add('debug'),
    info: add('info'),
    warn: add('warn'),
    error: add('error'),
    with: (more) => recordingLogger(lines, { ...fields, ...more }),
  };
}

export interface World {
  readonly clock: FakeClock;
  readonly transport: FakeTransport;
  readonly upstreams: Upstreams;
  readonly log: string[];
  readonly metrics: string[];
}

/** The client under test over a fake clock and transport; randomness is 1/2 everywhere. */
export function world(urls: readonly string[], options: Partial<UpstreamsOptions> = {}): World {
  const clock = new FakeClock();
  const transport = new FakeTransport();
  const log: string[] = [];
  const metrics: string[] = [];
  const record: Metrics = {
    count: (name, labels) => metrics.push(`${name} ${JSON.stringify(labels)}`),
    observe: () => undefined,
    gauge: (name, value, labels) => metrics.push(`${name} ${value} ${JSON.stringify(labels)}`),
  };
  const upstreams = createUpstreams({
    upstreams: urls.map(parseUpstreamUrl),
    transport,
    clock,
    random: () => 0.5,
    logger: recordingLogger(log),
    metrics: record,
    ...options,
  });
  return { clock, transport, upstreams, log, metrics };
}

export const HASH = 'abcdfghijklmnpqrsvwxyz0123456789';

/** A narinfo that parses, of the path with the hash above. */
export function narInfoText(fields: Readonly<Record<string, string>> = {}): string {
  const all = {
    StorePath: `/nix/store/${HASH}-hello`,
    URL: 'nar/x.nar',
    Compression: 'none',
    NarHash: `sha256:${'0'.repeat(52)}`,
    NarSize: '120',
    References: '',
    ...fields,
  };
  return Object.entries(all)
    .map(([name, value]) => `${name}: ${value}\n`)
    .join('');
}

/** Takes every offer, and tells whose it was. */
export function acceptAll(offer: NarInfoOffer): Promise<{ accepted: true; value: string }> {
  return Promise.resolve({ accepted: true, value: offer.upstream });
}
