import type { PathFinder } from './find-path.ts';
import { createTurns } from './turns.ts';

export interface LookUpOptions {
  readonly signal?: AbortSignal;
  /** Called often. */
  readonly onProgress?: (progress: Progress) => void;
}

export interface Progress {
  readonly done: number;
  /** Of so many that are known by now. */
  readonly total: number;
}

const LOOKUPS_AT_ONCE = 16;
/** Missing references that are named. */
const MOST_LISTED = 100;
const HASH_LENGTH = 32;

/**
 * Every path of the closure, so that the index has all its edges. Ends when all that was begun has ended.
 *
 * @returns what no source has; the first of it
 * @throws the first fault
 */
export async function lookUpClosure(
  paths: PathFinder,
  root: string,
  references: readonly string[],
  { signal, onProgress }: LookUpOptions,
): Promise<{ readonly missing: readonly string[] }> {
  const seen = new Set([root]);
  const missing: string[] = [];
  const waiting = new Set<Promise<void>>();
  const turns = createTurns(LOOKUPS_AT_ONCE);
  let failure: { readonly error: unknown } | null = null;
  let done = 1;

  async function lookUp(hash: string): Promise<void> {
    if (failure !== null) return;
    try {
      signal?.throwIfAborted();
      const found = await paths.find(hash);
      done += 1;
      if (found.kind === 'found') follow(found.known.path.references);
      else if (missing.length < MOST_LISTED) missing.push(hash);
      onProgress?.({ done, total: seen.size });
    } catch (error) {
      failure ??= { error };
    }
  }

  function follow(names: readonly string[]): void {
    for (const name of names) {
      const hash = name.slice(0, HASH_LENGTH);
      if (seen.has(hash)) continue;
      seen.add(hash);
      const looking = turns.take(() => lookUp(hash)).finally(() => waiting.delete(looking));
      waiting.add(looking);
    }
  }

  follow(references);
  while (waiting.size > 0) await Promise.all(waiting);
  if (failure !== null) throw (failure as { readonly error: unknown }).error;
  return { missing };
}
