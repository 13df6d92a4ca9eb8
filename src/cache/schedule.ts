import { LRUCache } from 'lru-cache';
import { type BackgroundJob, keyOfJob, type Platform } from '../platform.ts';

/** Long work that is handed over to where nobody waits for it. */
export interface Schedule {
  /** Whether anything takes such work. */
  readonly exists: boolean;
  /** Hands the job over after the answer, once for a while; does nothing where nothing takes it. */
  add(job: BackgroundJob): void;
}

/** A job of the same key is not handed over again for so long, in milliseconds: the first one is on its way. */
const ONCE_MS = 5 * 60 * 1000;
const MOST_REMEMBERED = 10_000;

/** When each job was handed over in this process, in milliseconds since the epoch. */
export type ScheduleMemory = LRUCache<string, number>;

export function createScheduleMemory(): ScheduleMemory {
  return new LRUCache({ max: MOST_REMEMBERED });
}

export function createSchedule(
  platform: Pick<Platform, 'schedule' | 'clock' | 'defer' | 'logger'>,
  added: ScheduleMemory,
): Schedule {
  const { clock, logger, schedule } = platform;
  if (schedule === undefined) return { exists: false, add: () => undefined };
  return {
    exists: true,
    add(job) {
      const key = keyOfJob(job);
      const name = `${job.kind} ${key ?? ''}`;
      const last = added.get(name);
      if (last !== undefined && clock.now() < last + ONCE_MS) return;
      added.set(name, clock.now());
      const handedOver = schedule(job).then(
        () => logger.debug('A job was handed over', { job: job.kind, key }),
        (error: unknown) => {
          added.delete(name);
          throw error;
        },
      );
      platform.defer('schedule a job', handedOver);
    },
  };
}
