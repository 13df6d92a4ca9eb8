import type { PathWithNar } from '../database/metadata-store.ts';
import { collect } from '../stream/byte-stream.ts';
import { rejustify } from './find-path.ts';
import type { CacheServices } from './services.ts';
import { storeNarInfo } from './store-nar-info.ts';
import { isStillJustified, unsignedUpstreamsOf } from './trust.ts';

/** What the bucket's narinfos were last checked against: public keys and upstream URLs, one a line. */
const TRUST_KEY = 'snowcap/trusted-keys';
const PAGE = 100;
const MOST_TRUST_BYTES = 1024 * 1024;

/**
 * A key that is no longer trusted takes its paths with it. Answers mind that by themselves, path by path; this
 * removes their narinfos from the bucket as well, where a plain client or a Snowcap without index would go on
 * to read them. The narinfos of paths that are trusted again come back. Does nothing while the trusted keys are the
 * same as last time.
 *
 * @returns how many paths were withdrawn
 */
export async function withdrawUntrusted(
  services: CacheServices,
  onPathsChanged: (hashes: readonly string[]) => void,
): Promise<number> {
  const { storage, metadata, platform, trustedKeys } = services;
  const unsigned = unsignedUpstreamsOf(services);
  const trust = new TextEncoder().encode([...trustedKeys.keys(), ...unsigned].sort().join('\n') + '\n');
  const last = await storage.get(TRUST_KEY);
  if (last !== null && last.kind === 'found') {
    const bytes =
      last.body.kind === 'bytes'
        ? last.body.bytes
        : await collect(last.body.stream, MOST_TRUST_BYTES, TRUST_KEY);
    if (equal(bytes, trust)) return 0;
  }
  let withdrawn = 0;
  let after = 0;
  for (;;) {
    const page = await metadata.listPaths(after, PAGE);
    const end = page.at(-1);
    if (end === undefined) break;
    after = end.path.id;
    const gone: string[] = [];
    for (const known of page) {
      const justified = isStillJustified(known.path, trustedKeys, unsigned)
        ? known
        : await rejustify(services, known, unsigned);
      if (justified === null) gone.push(known.path.hash);
      else await restoreNarInfo(services, justified);
    }
    await storage.delete(gone.flatMap((hash) => [`${hash}.narinfo`, `${hash}.ls`]));
    onPathsChanged(gone);
    withdrawn += gone.length;
    // Other work goes first: this may walk over a million rows.
    await platform.clock.sleep(0);
  }
  await storage.put(TRUST_KEY, { kind: 'bytes', bytes: trust }, { contentType: 'text/plain; charset=utf-8' });
  if (withdrawn > 0) {
    platform.logger.warn('Paths were withdrawn: the keys that signed them are not trusted any more', {
      withdrawn,
    });
  }
  return withdrawn;
}

/** Its key may have been withdrawn before, and its narinfo with it; the body has stayed. */
async function restoreNarInfo(services: CacheServices, known: PathWithNar): Promise<void> {
  if (known.nar.state !== 'present') return;
  if ((await services.storage.head(`${known.path.hash}.narinfo`)) !== null) return;
  if ((await services.storage.head(known.nar.key)) !== null) await storeNarInfo(services, known);
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}
