import type { CacheInfoMemory } from './cache-info-reading.ts';
import { Circuit } from './circuit.ts';
import { DEFAULT_UPSTREAM_SETTINGS, type UpstreamSettings } from './settings.ts';

/**
 * What a process remembers of its upstreams from one request to the next: values alone, never a promise or a
 * timer. Where the client of the upstreams is made anew for each request (on Workers), all of them share this.
 */
export interface UpstreamMemory {
  /** @param name base URL of the upstream */
  of(name: string): OneUpstreamMemory;
}

export interface OneUpstreamMemory {
  readonly circuit: Circuit;
  readonly cacheInfo: CacheInfoMemory;
}

/**
 * @param given those settings that are not the default ones
 * @param random gives a number in [0, 1), for jitter
 */
export function createUpstreamMemory(given: Partial<UpstreamSettings>, random: () => number): UpstreamMemory {
  const settings = { ...DEFAULT_UPSTREAM_SETTINGS, ...given };
  const upstreams = new Map<string, OneUpstreamMemory>();
  return {
    of(name) {
      const known = upstreams.get(name);
      if (known !== undefined) return known;
      const made = { circuit: new Circuit(settings, random), cacheInfo: { priority: null, last: null } };
      upstreams.set(name, made);
      return made;
    },
  };
}
