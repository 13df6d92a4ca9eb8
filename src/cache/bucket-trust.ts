import type { CacheServices } from './services.ts';
import { storedBytes } from './stored-bytes.ts';
import { unsignedUpstreamsOf } from './trust.ts';

/**
 * What the narinfos of the bucket were last checked against: public keys and the upstreams whose unsigned paths are
 * allowed. Those who read the bucket without the index have no other sign that a narinfo may be served.
 */
export interface BucketTrust {
  /** Whether all were checked against what is trusted today; remembered once they were. @throws StorageError */
  isCurrent(): Promise<boolean>;
  /** Which were checked against what is trusted today; null for none. @throws StorageError */
  checked(): Promise<CheckedNarInfos | null>;
  /** These were checked against what is trusted today. @throws StorageError */
  record(checked: CheckedNarInfos): Promise<void>;
}

/** All, or those of the paths that the index knew: others may be of a key that was withdrawn before it was lost. */
export type CheckedNarInfos = 'all' | 'known';

/** What is known of it in this process. */
export interface BucketTrustMemory {
  current: boolean;
}

/** Where it is kept. */
export const TRUSTED_KEYS_KEY = 'snowcap/trusted-keys';
const MOST_BYTES = 1024 * 1024;
/** A last line that is no key. */
const OF_KNOWN = 'but for narinfos that the index did not know\n';

export function createBucketTrustMemory(): BucketTrustMemory {
  return { current: false };
}

export function createBucketTrust(
  services: Pick<CacheServices, 'storage' | 'trustedKeys' | 'upstreams'>,
  memory: BucketTrustMemory,
): BucketTrust {
  const { storage, trustedKeys } = services;
  const trusted = [...trustedKeys.keys(), ...unsignedUpstreamsOf(services)].sort();
  const all = `${trusted.join('\n')}\n`;
  const known = `${all}${OF_KNOWN}`;

  async function checked(): Promise<CheckedNarInfos | null> {
    if (memory.current) return 'all';
    const last = await storedBytes(storage, TRUSTED_KEYS_KEY, MOST_BYTES);
    const text = last === null ? null : new TextDecoder().decode(last);
    memory.current = text === all;
    return memory.current ? 'all' : text === known ? 'known' : null;
  }

  return {
    checked,
    isCurrent: async () => (await checked()) === 'all',
    async record(which) {
      const bytes = new TextEncoder().encode(which === 'all' ? all : known);
      await storage.put(
        TRUSTED_KEYS_KEY,
        { kind: 'bytes', bytes },
        { contentType: 'text/plain; charset=utf-8' },
      );
      memory.current = which === 'all';
    },
  };
}
