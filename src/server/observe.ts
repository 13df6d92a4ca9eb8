import type { MiddlewareHandler } from 'hono';
import type { Platform } from '../platform.ts';
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

/** Gives each request its id and its note, and writes one line when the answer is over. */
export function observe(platform: Platform): MiddlewareHandler<AppEnv> {
  const { clock, metrics, logger } = platform;
  return async (c, next) => {
    const started = clock.now();
    let ended = false;
    const given = c.req.header('x-request-id');
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
          ...(note.error === undefined ? {} : { error: note.error }),
        };
        if (status >= 500 || note.outcome === 'broken') logger.warn('request', fields);
        else if (note.route === 'health') logger.debug('request', fields);
        else logger.info('request', fields);
      },
    };
    c.set('note', note);
    try {
      await next();
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
