import { below, DAY_MS, type Request, seededRandom, type Trace, traceOf } from './trace.ts';

export interface ZipfOptions {
  readonly seed: number;
  readonly days: number;
  readonly requestsPerDay: number;
  /** That are in use at a time; each day some are replaced by new ones. */
  readonly objects: number;
  /** Whether every fifth day somebody asks once for a quarter of all that is there, popular or not. */
  readonly scans: boolean;
}

/** Of the objects, replaced each day. */
const DRIFT = 0.015;
const EXPONENT = 0.9;
const SCANNED = 0.25;
const SCAN_STEP_MS = 200;

/**
 * Independent requests by Zipf's law. Sizes are log-normal with a median of 30 kB, as those of the NARs of a NixOS
 * release are about: most are small, most bytes are in a few.
 */
export function zipfTrace({ seed, days, requestsPerDay, objects, scans }: ZipfOptions): Trace {
  const random = seededRandom(seed);
  const sizes: number[] = [];
  const make = (): number => sizes.push(sizeByChance(random)) - 1;
  const byRank = Array.from({ length: objects }, make);
  const cumulated = new Float64Array(objects);
  let sum = 0;
  for (let rank = 0; rank < objects; rank++) cumulated[rank] = sum += (rank + 1) ** -EXPONENT;

  const requests: Request[] = [];
  const ask = (at: number, rank: number): void => {
    requests.push({ at, object: byRank[rank] ?? 0 });
  };
  for (let day = 0; day < days; day++) {
    for (let fresh = 0; fresh < objects * DRIFT; fresh++) byRank[below(objects, random)] = make();
    for (let request = 0; request < requestsPerDay; request++) {
      ask((day + random()) * DAY_MS, firstAbove(cumulated, random() * sum));
    }
    if (scans && day % 5 === 4) {
      const begin = (day + random() * 0.9) * DAY_MS;
      for (let step = 0; step < objects * SCANNED; step++)
        ask(begin + step * SCAN_STEP_MS, below(objects, random));
    }
  }
  return traceOf(scans ? 'Zipf with scans' : 'Zipf', requests, sizes);
}

function sizeByChance(random: () => number): number {
  const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return Math.min(2e9, Math.max(500, Math.round(30_000 * Math.exp(2.2 * normal))));
}

function firstAbove(ascending: Float64Array, value: number): number {
  let low = 0;
  let high = ascending.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ascending[middle] ?? 0) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
