import { context, propagation, type Tracer } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  ParentBasedSampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
  type Sampler,
  type SpanExporter,
} from '@opentelemetry/sdk-trace';
import type { Logger } from './logger.ts';
import type { Metrics } from './metrics.ts';
import { type Exporting, SpanQueue } from './otel-span-queue.ts';

/** Where traces go, and which of them. */
export interface TracingOptions {
  /** URL that spans are posted to, in OTLP as JSON. */
  readonly endpoint: string;
  /** Sent with each request to it; may be secret. */
  readonly headers: Readonly<Record<string, string>>;
  readonly serviceName: string;
  /** Of Snowcap. */
  readonly version: string;
  /** What else is said of this process. */
  readonly resourceAttributes: Readonly<Record<string, string>>;
  readonly sampler: {
    readonly kind: 'always_on' | 'always_off' | 'traceidratio';
    /** The part of the traces that `traceidratio` takes, 0 to 1. */
    readonly ratio: number;
    /** Whether a client that sends a `traceparent` decides. */
    readonly parentBased: boolean;
  };
  readonly exporting: Exporting;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** @default OTLP over HTTP, to `endpoint` */
  readonly exporter?: SpanExporter;
}

export interface OpenTracing {
  /** For `Platform.tracer`. */
  readonly tracer: Tracer;
  /** Sends the spans that have ended. Never rejects. */
  flush(): Promise<void>;
  /** The same for the last time, in bounded time. Never rejects. */
  close(): Promise<void>;
}

/** How long a batch may take, with its retries, in milliseconds. */
const EXPORT_TIMEOUT_MS = 3_000;
/** Requests to the collector at once: one, and one that was given up. */
const MOST_EXPORTS = 2;
/** How long the end waits for the collector, in milliseconds. */
const CLOSE_LIMIT_MS = 4_000;
/** A text longer than this is cut, in characters. */
const MOST_TEXT = 2_048;

/**
 * Turns tracing on. The context manager and the propagator belong to the whole process (or isolate) and stay; the
 * tracer, with its queue, may be made anew for each invocation.
 */
export function createTracing(options: TracingOptions): OpenTracing {
  // Both say no where one is there already.
  context.setGlobalContextManager(new AsyncLocalStorageContextManager());
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());
  const { endpoint, headers, exporting, logger, metrics } = options;
  const exporter =
    options.exporter ??
    new OTLPTraceExporter({
      url: endpoint,
      headers: { ...headers },
      timeoutMillis: EXPORT_TIMEOUT_MS,
      concurrencyLimit: MOST_EXPORTS,
    });
  const queue = new SpanQueue({ exporter, endpoint, exporting, logger, metrics });
  const provider = new TracerProvider({
    resource: resourceFromAttributes({
      ...options.resourceAttributes,
      'service.name': options.serviceName,
      'service.version': options.version,
    }),
    sampler: samplerOf(options.sampler),
    spanLimits: { attributeValueLengthLimit: MOST_TEXT },
    spanProcessors: [queue],
  });
  return {
    tracer: provider.getTracer('snowcap', options.version),
    flush: () => queue.forceFlush(),
    async close() {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const enough = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, CLOSE_LIMIT_MS);
      });
      await Promise.race([queue.shutdown(), enough]);
      clearTimeout(timer);
    },
  };
}

function samplerOf({ kind, ratio, parentBased }: TracingOptions['sampler']): Sampler {
  const samplers = {
    always_on: () => new AlwaysOnSampler(),
    always_off: () => new AlwaysOffSampler(),
    traceidratio: () => new TraceIdRatioBasedSampler(ratio),
  };
  const root = samplers[kind]();
  return parentBased ? new ParentBasedSampler({ root }) : root;
}
