import type { Cache } from '../../cache/cache.ts';
import type { JobOutcome } from '../../cache/run-job.ts';
import type { Logger } from '../../telemetry/logger.ts';
import { parseJob } from '../parse-job.ts';
import type { QueuedJob } from './bindings.ts';

/** What is used of a batch of a queue (`MessageBatch` of @cloudflare/workers-types fits). */
export interface JobBatch {
  readonly messages: readonly JobMessage[];
}

export interface JobMessage {
  readonly body: unknown;
  readonly attempts: number;
  ack(): void;
  retry(options?: { delaySeconds?: number }): void;
}

/** A consumer is ended after 15 minutes: the job shall end before, cleanly. In milliseconds. */
const TIME_FOR_A_BATCH_MS = 14 * 60 * 1000;

/** Seconds before the next attempt; the last one counts from then on. */
const PAUSES: readonly number[] = [15, 60, 300];

/** Does the jobs of a batch, one after the other. What cannot be done now comes again, as often as the queue allows. */
export async function consume(
  batch: JobBatch,
  cache: Pick<Cache, 'run' | 'startUp'>,
  logger: Logger,
): Promise<void> {
  const outOfTime = AbortSignal.timeout(TIME_FOR_A_BATCH_MS);
  for (const message of batch.messages) {
    const { body, attempts } = message;
    const job = queuedJobOf(body);
    if (job === null) {
      logger.error('The queue has a message that is no job: it is dropped');
      message.ack();
      continue;
    }
    const outcome = await done(cache, job, outOfTime);
    if (outcome.kind !== 'later') message.ack();
    else message.retry({ delaySeconds: PAUSES[Math.min(attempts, PAUSES.length) - 1] ?? 300 });
  }
}

async function done(
  cache: Pick<Cache, 'run' | 'startUp'>,
  job: QueuedJob,
  signal: AbortSignal,
): Promise<JobOutcome> {
  if (job.kind !== 'start-up') return await cache.run(job, signal);
  await cache.startUp();
  return { kind: 'done' };
}

function queuedJobOf(body: unknown): QueuedJob | null {
  const isStartUp = typeof body === 'object' && body !== null && 'kind' in body && body.kind === 'start-up';
  return isStartUp ? { kind: 'start-up' } : parseJob(body);
}
