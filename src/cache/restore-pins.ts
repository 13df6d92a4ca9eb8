import { CacheError } from './errors.ts';
import { createPathFinder } from './find-path.ts';
import { lookUpClosure } from './look-up-closure.ts';
import { pinMirrors } from './mirrors.ts';
import { createNegativeMemory } from './negative-memory.ts';
import type { CacheServices } from './services.ts';

export interface RestorePinsOptions {
  /** Look up at the upstreams what the closures of the pins refer to. */
  readonly lookUp: boolean;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Records the pins that the bucket has mirrors of. The narinfos of the bucket name the references of what is stored alone:
 * with a root that is not, the rest of its closure would be evicted from under the pin. An upstream that is at fault is
 * logged: the pin keeps what is known of its closure.
 *
 * @returns how many there are
 * @throws what the storage and the index throw, and the signal's reason
 */
export async function restorePins(
  services: CacheServices,
  { lookUp, signal }: RestorePinsOptions,
): Promise<number> {
  const { storage, upkeep, platform, settings } = services;
  const paths = createPathFinder(services, createNegativeMemory(settings.negativeTtlMs, platform.clock));
  let count = 0;
  for await (const pin of pinMirrors(storage)) {
    await upkeep.putPin(pin);
    count += 1;
    if (!lookUp) continue;
    try {
      const root = await paths.find(pin.hash);
      if (root.kind === 'missing') continue;
      const { references } = root.known.path;
      await lookUpClosure(paths, pin.hash, references, signal === undefined ? {} : { signal });
    } catch (error) {
      if (!(error instanceof CacheError)) throw error;
      platform.logger.warn('The closure of a pin could not be looked up: it is kept as far as it is known', {
        pin: pin.name,
        error,
      });
    }
    // With what was found before a fault, too.
    await upkeep.putPin(pin);
  }
  return count;
}
