/** Requests for bodies in the order of their times, as numbers of objects. */
export interface Trace {
  readonly name: string;
  /** Milliseconds. */
  readonly times: Float64Array;
  readonly objects: Uint32Array;
  /** Bytes by the number of the object. */
  readonly sizes: Float64Array;
}

export interface Request {
  /** Milliseconds. */
  readonly at: number;
  readonly object: number;
}

export const HOUR_MS: number = 60 * 60 * 1000;
export const DAY_MS: number = 24 * HOUR_MS;

/** @param sizes bytes by the number of the object */
export function traceOf(name: string, requests: readonly Request[], sizes: readonly number[]): Trace {
  const sorted = requests.toSorted((left, right) => left.at - right.at);
  return {
    name,
    times: Float64Array.from(sorted, ({ at }) => at),
    objects: Uint32Array.from(sorted, ({ object }) => object),
    sizes: Float64Array.from(sizes),
  };
}

/** Of the objects that are asked for, each once. */
export function distinctBytes({ objects, sizes }: Trace): number {
  return [...new Set(objects)].reduce((sum, object) => sum + (sizes[object] ?? 0), 0);
}

/** Numbers from 0 to 1, the same ones for the same seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A whole number from 0 to below `count`. */
export function below(count: number, random: () => number): number {
  return Math.floor(random() * count);
}
