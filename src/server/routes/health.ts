import type { Context } from 'hono';
import { answerBytes } from '../answer.ts';
import type { AppEnv, AppOptions } from '../env.ts';
import { answerError } from '../errors.ts';

const UNCACHED = { 'Cache-Control': 'no-store' };

/** `GET /healthz`: the process answers. Asks nothing else, so that a slow dependency restarts nobody. */
export function aliveRoute(c: Context<AppEnv>): Response {
  note(c);
  return answerBytes(c, 200, { 'Content-Type': 'text/plain; charset=utf-8', ...UNCACHED }, 'ok\n');
}

/** `GET /readyz`: each dependency, told apart; 503 where the storage cannot be reached. */
export async function readyRoute(c: Context<AppEnv>, { cache }: AppOptions): Promise<Response> {
  note(c);
  const readiness = await cache.readiness();
  const headers = { 'Content-Type': 'application/json', ...UNCACHED };
  return answerBytes(c, readiness.ready ? 200 : 503, headers, `${JSON.stringify(readiness, null, 2)}\n`);
}

/** `GET /metrics`, in the format of Prometheus. */
export async function metricsRoute(c: Context<AppEnv>, { exposition }: AppOptions): Promise<Response> {
  note(c);
  if (exposition === undefined) {
    return answerError(c, 404, 'no_metrics', 'This runtime keeps no metrics of its own');
  }
  const { contentType, body } = await exposition();
  return answerBytes(c, 200, { 'Content-Type': contentType, ...UNCACHED }, body);
}

function note(c: Context<AppEnv>): void {
  c.get('note').route = 'health';
  c.get('note').outcome = 'answered';
}
