import type { CacheServices } from './services.ts';
import { storedBytes } from './stored-bytes.ts';
import { unsignedUpstreamsOf } from './trust.ts';

/**
 * What the narinfos of the bucket were last checked against: public keys and the upstreams whose unsigned paths are
 * allowed. Those who read the bucket without the index have no other sign that a narinfo may be served.
 */
export interface BucketTrust {
  /** Whether that is what is trusted today; remembered once it is. @throws StorageError */
  isCurrent(): Promise<boolean>;
  /** Every narinfo was checked against what is trusted today. @throws StorageError */
  record(): Promise<void>;
}

/** What is known of it in this process. */
export interface BucketTrustMemory {
  current: boolean;
}

/** Where it is kept. */
export const TRUSTED_KEYS_KEY = 'snowcap/trusted-keys';
const MOST_BYTES = 1024 * 1024;

export function createBucketTrustMemory(): BucketTrustMemory {
  return { current: false };
}

export function createBucketTrust(
  services: Pick<CacheServices, 'storage' | 'trustedKeys' | 'upstreams'>,
  memory: BucketTrustMemory,
): BucketTrust {
  const { storage, trustedKeys } = services;
  const trusted = [...trustedKeys.keys(), ...unsignedUpstreamsOf(services)].sort();
  const today = `${trusted.join('\n')}\n`;
  return {
    async isCurrent() {
      if (memory.current) return true;
      const last = await storedBytes(storage, TRUSTED_KEYS_KEY, MOST_BYTES);
      memory.current = last !== null && new TextDecoder().decode(last) === today;
      return memory.current;
    },
    async record() {
      const bytes = new TextEncoder().encode(today);
      await storage.put(
        TRUSTED_KEYS_KEY,
        { kind: 'bytes', bytes },
        { contentType: 'text/plain; charset=utf-8' },
      );
      memory.current = true;
    },
  };
}
