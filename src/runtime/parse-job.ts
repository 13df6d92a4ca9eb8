import type { BackgroundJob } from '../platform.ts';

const KINDS_WITH_KEY = ['fill', 'verify', 'fetch-pin'] as const;

/** A job as it was handed over; null for anything else. What is more in it is left out. */
export function parseJob(value: unknown): BackgroundJob | null {
  if (typeof value !== 'object' || value === null) return null;
  const kind: unknown = Reflect.get(value, 'kind');
  if (kind === 'evict') return { kind };
  const named = KINDS_WITH_KEY.find((name) => name === kind);
  const key: unknown = Reflect.get(value, 'key');
  return named === undefined || typeof key !== 'string' ? null : { kind: named, key };
}
