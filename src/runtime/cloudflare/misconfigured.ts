import { createConsoleLogger } from '../../telemetry/console-logger.ts';
import { MisconfiguredError } from './isolate.ts';

const logger = createConsoleLogger({ level: 'error' });

/**
 * The answer of a Worker that cannot serve at all: what is wrong stands in the log, whole and once for each request.
 *
 * @throws what is no MisconfiguredError
 */
export function answerMisconfigured(error: unknown): Response {
  if (!(error instanceof MisconfiguredError)) throw error;
  logger.error('The configuration of this Worker is wrong', { problems: error.problems });
  const text = 'misconfigured: This cache is not configured correctly; its log says what is wrong\n';
  const headers = { 'Content-Type': 'text/plain; charset=utf-8', 'Cache-Control': 'no-store' };
  return new Response(text, { status: 500, headers });
}
