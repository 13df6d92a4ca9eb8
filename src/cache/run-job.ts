import { type BackgroundJob, keyOfJob } from '../platform.ts';
import { assertKey, InvalidKeyError } from '../storage/blob-store.ts';
import { tracedAlone } from '../telemetry/tracing.ts';
import { CacheError } from './errors.ts';
import type { Evictions } from './evict/evictions.ts';
import { faultOf } from './faults.ts';
import type { BackgroundVerification } from './fill/background-verification.ts';
import type { FillEnd } from './fill/fill.ts';
import type { Fills } from './fill/fills.ts';
import { PinError, type Pins } from './pins.ts';
import type { CacheServices } from './services.ts';

/** What became of a job. The reasons are for logs, without secrets. */
export type JobOutcome =
  | { readonly kind: 'done' }
  /** There was nothing to do, nor will there be: a consumer acknowledges it, as one that is done. */
  | { readonly kind: 'nothing'; readonly reason: string }
  /** Not now: a consumer may try again, a few times. */
  | { readonly kind: 'later'; readonly reason: string };

export interface RunJobParts {
  readonly services: Pick<CacheServices, 'platform'>;
  readonly fills: Fills;
  readonly verification: Pick<BackgroundVerification, 'verify'>;
  readonly evictions: Pick<Evictions, 'run'>;
  readonly pins: Pick<Pins, 'fetch'>;
}

/** A run ends itself before its runtime does: consumers of queues and functions have 15 minutes. In milliseconds. */
const EVICTION_MS = 10 * 60 * 1000;

/**
 * Does work that no client waits for, and waits for it to be done. Bounded as each of its steps is: a body that stands
 * still is given up.
 *
 * @param signal aborted when time runs out
 */
export async function runJob(
  parts: RunJobParts,
  job: BackgroundJob,
  signal?: AbortSignal,
): Promise<JobOutcome> {
  const { logger, tracer } = parts.services.platform;
  const key = keyOfJob(job);
  const work = (): Promise<JobOutcome> => attempt(parts, job, signal);
  const traced = tracedAlone(tracer, `job ${job.kind}`, key === null ? {} : { 'snowcap.key': key }, work);
  const outcome = await traced.catch((error: unknown): JobOutcome => {
    logger.warn('A job failed', { job: job.kind, key, error });
    return { kind: 'later', reason: faultOf(error).message };
  });
  logger.info('job', { job: job.kind, key, outcome: outcome.kind, ...reasonOf(outcome) });
  return outcome;
}

async function attempt(
  parts: RunJobParts,
  job: BackgroundJob,
  signal: AbortSignal | undefined,
): Promise<JobOutcome> {
  if (job.kind === 'evict') return await evicted(parts, job, signal);
  const { kind, key } = job;
  if (kind === 'fetch-pin') return await fetched(parts, key, signal);
  try {
    assertKey(key);
  } catch (error) {
    if (error instanceof InvalidKeyError) return nothing('no NAR can have this key');
    throw error;
  }
  switch (kind) {
    case 'fill':
      return outcomeOf(await filled(parts.fills, key, signal));
    case 'verify':
      return await verified(parts.verification, key);
  }
}

/** Fills with no client. Joins the fill that is under way. */
async function filled(fills: Fills, key: string, signal: AbortSignal | undefined): Promise<FillEnd> {
  const fill = fills.join(key, { leader: false });
  const letGo = fill.keep();
  const outOfTime = (): void => {
    fill.cancel(new CacheError('busy', 'shutting_down', 'The time for this job is over'));
  };
  if (signal?.aborted === true) outOfTime();
  signal?.addEventListener('abort', outOfTime, { once: true });
  try {
    return await fill.done;
  } finally {
    signal?.removeEventListener('abort', outOfTime);
    letGo();
  }
}

function outcomeOf(end: FillEnd): JobOutcome {
  switch (end.kind) {
    case 'committed':
      return { kind: 'done' };
    case 'stored':
      return nothing('it is stored already');
    case 'missing':
      return nothing('no source has it');
    case 'unclaimed':
      return nothing('no path vouches for it');
    case 'unsaved':
      return end.again ? { kind: 'later', reason: end.why } : nothing(end.why);
    case 'failed':
      return { kind: 'later', reason: end.error.message };
  }
}

async function verified(verification: RunJobParts['verification'], key: string): Promise<JobOutcome> {
  switch (await verification.verify(key)) {
    case 'verified':
    case 'removed':
      return { kind: 'done' };
    case 'nothing':
      return nothing('there is nothing that could be verified');
    case 'changed':
      return { kind: 'later', reason: 'it was stored anew while it was read' };
  }
}

/** What is stored already costs the next attempt nothing. */
async function fetched(
  { pins }: RunJobParts,
  name: string,
  signal: AbortSignal | undefined,
): Promise<JobOutcome> {
  try {
    const { failures } = await pins.fetch(name, signal === undefined ? {} : { signal });
    return failures === 0 ? { kind: 'done' } : { kind: 'later', reason: `${failures} NARs could not be had` };
  } catch (error) {
    if (error instanceof PinError) return nothing(error.message);
    throw error;
  }
}

/** What is left when time runs out is another job's, as long as each of them gets on. */
async function evicted(
  { services, evictions }: RunJobParts,
  job: BackgroundJob,
  signal: AbortSignal | undefined,
): Promise<JobOutcome> {
  const options = { budgetMs: EVICTION_MS, ...(signal === undefined ? {} : { signal }) };
  const { outcome, freed } = await evictions.run(options);
  switch (outcome) {
    case 'within_limit':
    case 'reached':
    case 'kept':
      return { kind: 'done' };
    case 'another_runs':
      return nothing('another eviction runs');
    case 'rebuilding':
      return nothing('the index is being rebuilt');
    case 'storage_fault':
      return { kind: 'later', reason: 'the storage deletes nothing' };
    case 'out_of_time': {
      const { schedule } = services.platform;
      const gotOn = Object.values(freed).some(({ nars }) => nars > 0);
      if (!gotOn || schedule === undefined) return { kind: 'later', reason: 'the time for it is over' };
      await schedule(job);
      return { kind: 'done' };
    }
  }
}

function nothing(reason: string): JobOutcome {
  return { kind: 'nothing', reason };
}

function reasonOf(outcome: JobOutcome): { readonly reason?: string } {
  return outcome.kind === 'done' ? {} : { reason: outcome.reason };
}
