import {
  context,
  createContextKey,
  propagation,
  SpanKind,
  SpanStatusCode,
  trace,
  TraceFlags,
  type Attributes,
  type Context,
  type Span,
  type SpanContext,
  type Tracer,
} from '@opentelemetry/api';
import { redactText } from './redact.ts';

/**
 * Spans, as the core makes them. A request begins one (`traceRequest`), and so does work that no request waits for
 * (`tracedAlone`); all others are children of the span that is active where they begin, and are not made where there
 * is none: without tracing nothing here allocates, and nothing keeps an asynchronous context.
 *
 * The tracer comes from the runtime (`Platform.tracer`), the active span from the context manager that it installed.
 */
export type { Attributes, Span, SpanContext, Tracer };

/** The tracer of a request that is sampled travels in its context, so that children need no other way to it. */
const TRACER = createContextKey('snowcap tracer');

function isTracer(value: unknown): value is Tracer {
  return typeof value === 'object' && value !== null && 'startSpan' in value;
}

function entered(tracer: Tracer, span: Span, parent: Context): Context {
  const inside = trace.setSpan(parent, span);
  return isSampled(span.spanContext()) ? inside.setValue(TRACER, tracer) : inside.deleteValue(TRACER);
}

function isSampled(of: SpanContext): boolean {
  return (of.traceFlags & TraceFlags.SAMPLED) !== 0;
}

/** The span of one request that is answered. */
export interface RequestSpan {
  /** The trace that the request belongs to, for the log; null where it is not sampled. */
  readonly traceId: string | null;
  /** Runs work of which this is the active span. */
  run<T>(work: () => T): T;
  /**
   * Ends it.
   *
   * @param name as `GET narinfo`
   * @param fault why it failed, where the fault is on this side
   */
  end(name: string, attributes: Attributes, fault?: unknown): void;
}

/**
 * Begins the span of a request, below the one that the client names (W3C Trace Context).
 *
 * @param header value of a header of the request, by its lower-case name
 */
export function traceRequest(
  tracer: Tracer,
  header: (name: string) => string | undefined,
  attributes: Attributes,
): RequestSpan {
  const parent = propagation.extract(context.active(), header, {
    get: (from, name) => from(name),
    keys: () => [],
  });
  const span = tracer.startSpan('request', { kind: SpanKind.SERVER, attributes }, parent);
  const inside = entered(tracer, span, parent);
  const of = span.spanContext();
  return {
    traceId: isSampled(of) ? of.traceId : null,
    run: (work) => context.with(inside, work),
    end(name, ended, fault) {
      span.updateName(name).setAttributes(ended);
      if (fault !== undefined) setFault(span, fault);
      span.end();
    },
  };
}

/**
 * Begins a child of the active span; null where nothing is traced. Whoever asks for it must end it, by `endSpan`.
 *
 * @param kind `client`: another system does the work
 */
export function startSpan(
  name: string,
  attributes: Attributes,
  kind: 'client' | 'internal' = 'internal',
): Span | null {
  const active = context.active();
  const tracer = active.getValue(TRACER);
  if (!isTracer(tracer)) return null;
  const options = { kind: kind === 'client' ? SpanKind.CLIENT : SpanKind.INTERNAL, attributes };
  return tracer.startSpan(name, options, active);
}

/** Ends a span; with the error where the work failed. */
export function endSpan(span: Span, error?: unknown): void {
  if (error !== undefined) setFault(span, error);
  span.end();
}

/** Runs work of which a span is the active one. */
export function within<T>(span: Span, work: () => T): T {
  return context.with(trace.setSpan(context.active(), span), work);
}

/** Runs work in a child of the active span, and ends it with the work; plainly where nothing is traced. */
export function traced<T>(name: string, attributes: Attributes, work: () => Promise<T>): Promise<T> {
  const span = startSpan(name, attributes);
  return span === null ? work() : endingWith(span, () => within(span, work));
}

/**
 * Runs work that no request waits for in a trace of its own, whatever is active: who asked for it may be long gone.
 *
 * @param tracer undefined where tracing is off
 */
export function tracedAlone<T>(
  tracer: Tracer | undefined,
  name: string,
  attributes: Attributes,
  work: () => Promise<T>,
): Promise<T> {
  if (tracer === undefined) return work();
  const span = tracer.startSpan(name, { root: true, attributes });
  return endingWith(span, () => context.with(entered(tracer, span, context.active()), work));
}

/** Ends the span with the work that `begin` begins. */
export async function endingWith<T>(span: Span, begin: () => Promise<T>): Promise<T> {
  try {
    const value = await begin();
    span.end();
    return value;
  } catch (error) {
    endSpan(span, error);
    throw error;
  }
}

/** Says more of the active span. */
export function annotate(attributes: Attributes): void {
  trace.getActiveSpan()?.setAttributes(attributes);
}

/** Names the active span to those that will follow its work; undefined where it is not sampled. */
export function activeSpan(): SpanContext | undefined {
  const active = trace.getActiveSpan()?.spanContext();
  return active !== undefined && isSampled(active) ? active : undefined;
}

/** Says that the active span follows the work of another one. */
export function follows(other: SpanContext | undefined): void {
  if (other !== undefined) trace.getActiveSpan()?.addLink({ context: other });
}

/**
 * Headers that name a span to the server that is asked (W3C Trace Context): the span given, else the active one, also
 * where that is not sampled. None where nothing is traced.
 */
export function traceHeaders(span: Span | null): Readonly<Record<string, string>> {
  const active = context.active();
  const headers: Record<string, string> = {};
  propagation.inject(span === null ? active : trace.setSpan(active, span), headers);
  return headers;
}

/** Texts lose their credentials, as in the log (law 10). */
function setFault(span: Span, error: unknown): void {
  const { message, name } = error instanceof Error ? error : new Error(String(error));
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
  span.setAttribute('error.type', typeof code === 'string' ? code : name);
  span.setStatus({ code: SpanStatusCode.ERROR, message: redactText(message) });
}
