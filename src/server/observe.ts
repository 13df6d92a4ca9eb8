import type { MiddlewareHandler } from 'hono';
import type { Platform } from '../platform.ts';
import { type Attributes, traceRequest } from '../telemetry/tracing.ts';
import type { AppEnv } from './env.ts';

/** What is learnt of a request while it is answered: one log line and a few counters. */
export interface RequestNote {
  /** Ours, or the client's where it sent a plausible one. */
  readonly id: string;
  /** The kind of thing asked for; a label of metrics, so it comes from a small set. */
  route: string;
  /** `hit`, `fill`, `follow`, `negative`, `upstream`, … */
  outcome: string;
  /** Body bytes handed to the runtime. */
  bytes: number;
  /** Set while a body is still on its way after the handler has returned. */
  streaming: boolean;
  /** Why the answer is not what was asked for; for the log only. */
  error?: unknown;
  /** The answer begins now: its head is known. */
  begun(): void;
  /** Writes the line; further calls do nothing. */
  end(status: number): void;
  /** The same for a client that left before the end. */
  left(status: number): void;
}

const CLIENT_ID = /^[0-9A-Za-z._-]{1,64}$/;

/** What a machine asks every few seconds. */
const UNTRACED: ReadonlySet<string> = new Set(['/healthz', '/readyz', '/metrics']);

/** Gives each request its id and its note, and writes one line when the answer is over. */
export function observe(platform: Platform): MiddlewareHandler<AppEnv> {
  const { clock, metrics, logger, tracer } = platform;
  return async (c, next) => {
    const started = clock.now();
    let ended = false;
    const given = c.req.header('x-request-id');
    const span =
      tracer === undefined || UNTRACED.has(c.req.path)
        ? null
        : traceRequest(tracer, (name) => c.req.header(name), {
            'http.request.method': c.req.method,
            'url.path': c.req.path,
          });
    const note: RequestNote = {
      id: given !== undefined && CLIENT_ID.test(given) ? given : crypto.randomUUID(),
      route: 'other',
      outcome: 'other',
      bytes: 0,
      streaming: false,
      begun() {
        const seconds = (clock.now() - started) / 1000;
        metrics.observe('snowcap_request_seconds', seconds, { route: note.route });
      },
      left(status) {
        if (ended) return;
        note.outcome = 'client-left';
        note.end(status);
      },
      end(status) {
        if (ended) return;
        ended = true;
        const milliseconds = clock.now() - started;
        metrics.count('snowcap_requests_total', {
          route: note.route,
          status: String(status),
          outcome: note.outcome,
        });
        if (note.bytes > 0) metrics.count('snowcap_body_bytes_total', { route: note.route }, note.bytes);
        const fields = {
          method: c.req.method,
          path: c.req.path,
          status,
          outcome: note.outcome,
          bytes: note.bytes,
          milliseconds,
          request: note.id,
          ...(span === null || span.traceId === null ? {} : { trace: span.traceId }),
          ...(note.error === undefined ? {} : { error: note.error }),
        };
        span?.end(`${c.req.method} ${note.route}`, attributesOf(note, status), faultOf(note, status));
        if (status >= 500 || note.outcome === 'broken') logger.warn('request', fields);
        else if (note.route === 'health') logger.debug('request', fields);
        else logger.info('request', fields);
      },
    };
    c.set('note', note);
    try {
      if (span === null) await next();
      else await span.run(next);
    } catch (thrown) {
      // hono hands only what is an Error to `onError`; the reason with which a request was aborted may be a text.
      note.error = thrown;
      note.left(499);
      throw thrown;
    }
    if (note.streaming) return;
    note.begun();
    note.end(c.res.status);
  };
}

function attributesOf({ id, route, outcome, bytes }: RequestNote, status: number): Attributes {
  return {
    'http.route': route,
    'http.response.status_code': status,
    'http.response.body.size': bytes,
    'snowcap.outcome': outcome,
    'snowcap.request': id,
  };
}

/** A client that left, or asked for what is not there, is no fault of this side. */
function faultOf({ outcome, error }: RequestNote, status: number): unknown {
  if (status < 500 && outcome !== 'broken') return undefined;
  return error ?? new Error(`answered ${status}`);
}
