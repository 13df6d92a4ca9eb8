import type { Replayed } from './ranked-cache.ts';
import type { Trace } from './trace.ts';

/** Close below the budget, so that one sort serves many evictions and costs the optimum next to nothing. */
const LOW_WATER = 0.97;

/**
 * Replays the requests with the future known: what is next used latest goes first (Belady), which for bodies of different sizes
 * is the best known by bytes; or, by requests, what is next used latest for its size.
 */
export function replayOptimum(
  { objects, sizes }: Trace,
  budget: number,
  best: 'bytes' | 'requests',
): Replayed {
  const next = nextUses(objects, sizes.length);
  /** By object: the number of the request that asks for it next. */
  const nextOf = new Float64Array(sizes.length);
  const present = new Set<number>();
  const size = (object: number): number => sizes[object] ?? 0;
  let used = 0;
  let bytes = 0;
  let hits = 0;
  let hitBytes = 0;
  let evictions = 0;

  function drop(object: number): void {
    present.delete(object);
    used -= size(object);
  }

  function evict(request: number): void {
    const cost = (object: number): number => {
      const distance = (nextOf[object] ?? 0) - request;
      return best === 'bytes' ? distance : distance * size(object);
    };
    const byCost = [...present].map((object) => ({ object, cost: cost(object) }));
    byCost.sort((left, right) => right.cost - left.cost);
    for (const { object } of byCost) {
      if (used <= budget * LOW_WATER) break;
      drop(object);
      evictions += 1;
    }
  }

  for (let request = 0; request < objects.length; request++) {
    const object = objects[request] ?? 0;
    const usedNext = next[request] ?? Infinity;
    nextOf[object] = usedNext;
    bytes += size(object);
    if (present.has(object)) {
      hits += 1;
      hitBytes += size(object);
      if (usedNext === Infinity) drop(object);
    } else if (size(object) <= budget && usedNext !== Infinity) {
      present.add(object);
      used += size(object);
      if (used > budget) evict(request);
    }
  }
  return { requests: objects.length, bytes, hits, hitBytes, evictions };
}

function nextUses(objects: Uint32Array, count: number): Float64Array {
  const next = new Float64Array(objects.length);
  const seen = new Float64Array(count).fill(Infinity);
  for (let request = objects.length - 1; request >= 0; request--) {
    const object = objects[request] ?? 0;
    next[request] = seen[object] ?? Infinity;
    seen[object] = request;
  }
  return next;
}
