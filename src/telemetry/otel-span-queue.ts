import { TraceFlags } from '@opentelemetry/api';
import { ExportResultCode } from '@opentelemetry/core';
import type { ReadableSpan, SpanExporter, SpanProcessor } from '@opentelemetry/sdk-trace';
import type { Logger } from './logger.ts';
import type { Metrics } from './metrics.ts';
import { redactText, redactUrl } from './redact.ts';

/** When spans are sent. */
export type Exporting =
  /** A few seconds after they ended, many at once: where the process lives on. */
  | { readonly kind: 'batches' }
  /**
   * As soon as no span is open any more: where nothing runs after the answer but what is handed over.
   *
   * @param defer keeps the runtime going until the work is done: `waitUntil`, or what an invocation awaits
   */
  | { readonly kind: 'invocations'; defer(work: Promise<void>): void };

export interface SpanQueueOptions {
  readonly exporter: SpanExporter;
  /** Where they go, for the log. */
  readonly endpoint: string;
  readonly exporting: Exporting;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** Spans that wait, at most; about a kilobyte each. */
const MOST_WAITING = 2048;
/** Spans of one request to the collector. */
const BATCH = 512;
/** How long a span waits for others, in milliseconds. */
const DELAY_MS = 5_000;
/** A collector that takes longer than this for a batch has not taken it, in milliseconds. */
const EXPORT_LIMIT_MS = 5_000;

/**
 * Spans on their way to a collector: a bounded queue, one export at a time. What finds no room, or is not taken, is
 * dropped and counted; a collector that fails is one line in the log, until it takes spans again. Requests never wait.
 */
export class SpanQueue implements SpanProcessor {
  readonly #options: SpanQueueOptions;
  #waiting: ReadableSpan[] = [];
  #open = 0;
  #draining: Promise<void> | null = null;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #failing = false;

  constructor(options: SpanQueueOptions) {
    this.#options = options;
  }

  onStart(): void {
    this.#open += 1;
  }

  onEnd(span: ReadableSpan): void {
    this.#open -= 1;
    if ((span.spanContext().traceFlags & TraceFlags.SAMPLED) === 0) return;
    if (this.#waiting.length < MOST_WAITING) this.#waiting.push(redacted(span));
    else this.#count('dropped', 1);
    const { exporting } = this.#options;
    if (exporting.kind === 'invocations') {
      if (this.#open === 0) exporting.defer(this.forceFlush());
    } else if (this.#waiting.length >= BATCH && this.#draining === null && !this.#failing) {
      void this.forceFlush();
    } else this.#later();
  }

  /** Sends what waits. Never rejects. */
  forceFlush(): Promise<void> {
    this.#draining ??= this.#drain().finally(() => {
      this.#draining = null;
      if (this.#waiting.length > 0) this.#later();
    });
    return this.#draining;
  }

  async shutdown(): Promise<void> {
    await this.forceFlush();
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  #later(): void {
    if (this.#timer !== null || this.#options.exporting.kind !== 'batches') return;
    const timer: unknown = (this.#timer = setTimeout(() => {
      this.#timer = null;
      void this.forceFlush();
    }, DELAY_MS));
    if (isTimeout(timer)) timer.unref();
  }

  async #drain(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, BATCH);
      const error = await this.#send(batch);
      this.#count(error === null ? 'sent' : 'failed', batch.length);
      this.#tell(error);
      // What is left is tried later, with what has come by then.
      if (error !== null) return;
    }
  }

  /** Null where the collector has them. */
  #send(batch: ReadableSpan[]): Promise<Error | null> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        resolve(new Error(`The collector did not answer within ${EXPORT_LIMIT_MS} ms`));
      }, EXPORT_LIMIT_MS);
      this.#options.exporter.export(batch, ({ code, error }) => {
        clearTimeout(timer);
        const taken = code === ExportResultCode.SUCCESS;
        resolve(taken ? null : (error ?? new Error('The collector refused or could not be reached')));
      });
    });
  }

  #tell(error: Error | null): void {
    const { logger, endpoint } = this.#options;
    if (this.#failing === (error !== null)) return;
    this.#failing = error !== null;
    const fields = { endpoint: redactUrl(endpoint) };
    if (error === null) logger.info('The collector takes traces again', fields);
    else logger.warn('Traces are lost: the collector does not take them', { ...fields, error });
  }

  #count(result: 'sent' | 'failed' | 'dropped', spans: number): void {
    this.#options.metrics.count('snowcap_spans_total', { result }, spans);
  }
}

/** The last line: callers give no secrets in the first place (law 10). */
function redacted(span: ReadableSpan): ReadableSpan {
  for (const [name, value] of Object.entries(span.attributes)) {
    if (typeof value === 'string') span.attributes[name] = redactText(value);
  }
  return span;
}

/** A timer of Node, which would keep the process alive. */
function isTimeout(timer: unknown): timer is { unref(): void } {
  return typeof timer === 'object' && timer !== null && 'unref' in timer;
}
