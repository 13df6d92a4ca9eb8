import type { OpenedNar } from '../../upstream/upstreams.ts';
import { BodyMismatchError } from '../errors.ts';
import type { CacheServices } from '../services.ts';
import type { ExpectedBody } from './body-verifier.ts';
import type { Sources } from './sources.ts';

/** A body that an upstream gave and that is not what was signed or announced. */
export interface WrongBody {
  readonly key: string;
  /** Of the path that vouches for the key; null where none does and the key alone names the FileHash. */
  readonly storePath: string | null;
  /** Base URL, without credentials. */
  readonly upstream: string;
  readonly error: BodyMismatchError;
}

/** Counts and logs a wrong body, and lets other upstreams be asked first for its key. Who reads it gets `error`. */
export function refuse(
  {
    services,
    sources,
  }: {
    readonly services: Pick<CacheServices, 'platform'>;
    readonly sources: Pick<Sources, 'distrust'>;
  },
  { key, storePath, upstream, error }: WrongBody,
): void {
  const { logger, metrics } = services.platform;
  sources.distrust(key, upstream);
  metrics.count('snowcap_verification_failures_total', { reason: error.reason });
  logger.error('An upstream gave a wrong body: nothing of it was stored', {
    key,
    ...(storePath === null ? {} : { storePath }),
    upstream,
    reason: error.reason,
    error,
  });
}

/**
 * A length that contradicts what the narinfo says needs no download to be refused.
 *
 * @returns null where it does not, or where either is unknown
 */
export function announcedWrong(
  expected: Pick<ExpectedBody, 'key' | 'fileSize'>,
  opened: Pick<OpenedNar & { readonly kind: 'found' }, 'size' | 'upstream'>,
): BodyMismatchError | null {
  if (expected.fileSize === null || opened.size === null || opened.size === expected.fileSize) return null;
  return new BodyMismatchError(
    'size',
    `${opened.upstream} gives ${opened.size} bytes for ${expected.key}, ${expected.fileSize} were announced`,
  );
}
