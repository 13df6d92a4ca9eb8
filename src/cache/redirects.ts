import { CacheError } from './errors.ts';
import { faultOf } from './faults.ts';
import { type Claim, type ClaimAnswer, findClaim } from './fill/claim.ts';
import type { Fills } from './fill/fills.ts';
import { announcedWrong, refuse } from './fill/refuse.ts';
import type { Sources } from './fill/sources.ts';
import type { PathFinder } from './find-path.ts';
import type { NarAnswer, NarRedirect, NarRequest } from './get-nar.ts';
import type { Passage } from './passage.ts';
import type { Schedule } from './schedule.ts';
import type { CacheServices } from './services.ts';

/** NARs that clients fetch from the store itself, so that their bytes do not pass through here. */
export interface Redirects {
  /** Whether stored NARs are given so. */
  readonly hits: boolean;
  /** Whether those are that are not stored yet. */
  readonly misses: boolean;
  /**
   * To the store, after one look (what is not there is never redirected to it); null where it is not stored, `no URL`
   * where the store cannot make one now.
   *
   * @throws StorageError
   */
  hit(key: string): Promise<NarRedirect | null | 'no URL'>;
  /**
   * What is not stored: stored first and then redirected to, where it is small; else redirected to its upstream, and
   * stored by a job.
   *
   * A redirect to an upstream hands law 1 to the client: it checks the NarHash that it was given with the narinfo, which
   * was verified here. The URL is one that such a narinfo claims, of an upstream that was just asked whether
   * it has the NAR, in the size that it should have.
   *
   * @returns `stored` where it is stored by now
   * @throws CacheError where no source could tell; `fill_scheduled` where the upstream cannot be given away
   */
  miss(request: NarRequest): Promise<NarAnswer | 'stored'>;
}

export interface RedirectParts {
  readonly services: CacheServices;
  readonly paths: PathFinder;
  readonly sources: Sources;
  readonly fills: Fills;
  readonly passage: Passage;
  readonly schedule: Schedule;
}

type Claimed = ClaimAnswer & { readonly kind: 'claimed' };

export function createRedirects(parts: RedirectParts): Redirects {
  const { services, paths, sources, fills, passage, schedule } = parts;
  const { storage, platform, settings, upstreams } = services;
  const { redirectTtlSeconds, maxSize } = settings;
  const hits = settings.delivery === 'redirect' && storage.createDownloadUrl !== undefined;
  const mostFilledFirst = settings.fillBeforeRedirect ?? 0;

  /** A redirect to what is stored. */
  async function toStore(key: string): Promise<NarRedirect | 'no URL'> {
    try {
      const url = await storage.createDownloadUrl?.(key, { expiresInSeconds: redirectTtlSeconds });
      return url === undefined ? 'no URL' : { kind: 'redirect', outcome: 'redirect', url };
    } catch (error) {
      platform.logger.error('The storage could not make a URL: a NAR passes through', { key, error });
      return 'no URL';
    }
  }

  /** Stores a NAR that nobody reads meanwhile. */
  async function filledFirst(claimed: Claimed, request: NarRequest): Promise<NarAnswer | 'stored'> {
    const fill = fills.join(request.key, { leader: false, claimed });
    const letGo = fill.keep();
    const end = await fill.done.finally(letGo);
    switch (end.kind) {
      case 'committed':
      case 'stored':
        return 'stored';
      case 'missing':
        return end;
      case 'failed':
        throw end.error;
      case 'unsaved':
        if (end.again) schedule.add({ kind: 'fill', key: request.key });
        return await passage.claimed(claimed.claim, request);
      case 'unclaimed':
        return await passage.claimed(claimed.claim, request);
    }
  }

  /** @throws BodyMismatchError where the upstream announces another body */
  async function located(claim: Claim, request: NarRequest): ReturnType<Sources['locate']> {
    const found = await sources.locate(claim, request.signal);
    const { opened } = found;
    if (opened.kind === 'fault') throw faultOf(opened.fault);
    const wrong = opened.kind === 'found' ? announcedWrong(claim.expected, opened) : null;
    if (opened.kind !== 'found' || wrong === null) return found;
    const { storePath } = claim.path;
    refuse(parts, { key: request.key, storePath, upstream: opened.upstream, error: wrong });
    throw wrong;
  }

  return {
    hits,
    misses: hits && settings.fillBeforeRedirect !== null,

    async hit(key) {
      return (await storage.head(key)) === null ? null : await toStore(key);
    },

    async miss(request) {
      const { key } = request;
      const found = await findClaim(services, paths, key);
      if (found.kind === 'unclaimed') return await passage.unclaimed(request);
      if (found.kind === 'quarantined') return { kind: 'missing' };
      const { claim } = found;
      const { fileSize } = claim.expected;
      const isSmall = (size: number | null): boolean => size !== null && size <= mostFilledFirst;
      if (found.kind === 'claimed' && isSmall(fileSize)) return await filledFirst(found, request);
      const { opened, location } = await located(claim, request);
      if (opened.kind !== 'found') return { kind: 'missing' };
      const size = fileSize ?? opened.size;
      if (found.kind === 'claimed' && isSmall(size)) return await filledFirst(found, request);
      const scheduled = found.kind === 'claimed' && schedule.exists && (size ?? 0) <= maxSize;
      if (scheduled) schedule.add({ kind: 'fill', key });
      const url = location === null ? null : upstreams.publicUrl(location);
      if (url !== null) return { kind: 'redirect', outcome: 'upstream-redirect', url };
      // What nobody stores would be pushed back for ever.
      if (!scheduled) return await passage.claimed(claim, request);
      throw new CacheError('busy', 'fill_scheduled', `${key} is being fetched: try again soon`);
    },
  };
}
