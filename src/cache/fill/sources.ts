import { LRUCache } from 'lru-cache';
import type {
  FindResult,
  NarLocation,
  OpenedNar,
  OpenNarOptions,
  UpstreamFault,
} from '../../upstream/upstreams.ts';
import { leave } from '../../stream/byte-stream.ts';
import type { CacheServices } from '../services.ts';
import type { Claim } from './claim.ts';

/**
 * Opens the body of a claimed NAR wherever it can still be had: at its recorded source, at any upstream whose
 * narinfo gives the same encoding, at any upstream under the same path.
 */
export interface Sources {
  open(claim: Claim, options?: OpenNarOptions): Promise<OpenedNar>;
  /** Asks whether it can be had, and at which upstream under which URL; nothing of the body is read. */
  locate(claim: Claim, signal?: AbortSignal): Promise<LocatedNar>;
  /** This upstream gave a wrong body for the key: for a while, others are asked first. */
  distrust(key: string, upstream: string): void;
}

/** Which upstream gave a wrong body for which key, a short while ago. */
export interface DistrustMemory {
  has(key: string, upstream: string): boolean;
  add(key: string, upstream: string): void;
}

/** What was found of a NAR, without its body. */
export interface LocatedNar {
  readonly opened: OpenedNar;
  /** As a narinfo that may be believed gives it; null where none does, or where a wrong body came from there lately. */
  readonly location: NarLocation | null;
}

const DISTRUST_MS = 5 * 60 * 1000;
const MOST_REMEMBERED = 10_000;

/** @param now gives milliseconds since the epoch */
export function createDistrustMemory(now: () => number): DistrustMemory {
  const until = new LRUCache<string, number>({ max: MOST_REMEMBERED });
  return {
    has(key, upstream) {
      const end = until.get(`${upstream} ${key}`);
      return end !== undefined && now() < end;
    },
    add(key, upstream) {
      until.set(`${upstream} ${key}`, now() + DISTRUST_MS);
    },
  };
}

export function createSources({ upstreams }: CacheServices, distrusted: DistrustMemory): Sources {
  /** Another upstream that gives the same bytes, as far as its narinfo tells. */
  function alternative(claim: Claim, signal: AbortSignal | undefined): Promise<FindResult<NarLocation>> {
    const { nar, path } = claim;
    return upstreams.findNarInfo<NarLocation>(
      path.hash,
      ({ info, upstream }) => {
        // These are left out on purpose, whatever they give.
        if (upstream === nar.source?.upstream || distrusted.has(nar.key, upstream)) {
          return Promise.resolve({ accepted: false, reason: null });
        }
        const same =
          info.narHash === path.narHash &&
          info.compression === nar.compression &&
          (nar.fileHash === null || info.fileHash === null || info.fileHash === nar.fileHash);
        return Promise.resolve(
          same
            ? { accepted: true, value: { upstream, url: info.url } }
            : { accepted: false, reason: `${upstream} does not give the same encoding of ${path.storePath}` },
        );
      },
      signal === undefined ? {} : { signal },
    );
  }

  async function first(claim: Claim, options: OpenNarOptions): Promise<LocatedNar> {
    const { nar } = claim;
    let fault: UpstreamFault | null = null;
    const attempt = async (
      open: () => Promise<OpenedNar>,
      location: NarLocation | null,
    ): Promise<LocatedNar | null> => {
      const opened = await open();
      if (opened.kind === 'fault') fault ??= opened.fault;
      return opened.kind === 'found' || opened.kind === 'unsatisfiable' ? { opened, location } : null;
    };
    const { source } = nar;
    const recorded = source === null ? null : () => attempt(() => upstreams.openNar(source, options), source);
    const recordedFirst = source !== null && !distrusted.has(nar.key, source.upstream);
    const elsewhere = async (): Promise<LocatedNar | null> => {
      const other = await alternative(claim, options.signal);
      // One who may have it could not be asked: then it is not missing (law 5).
      if (other.kind === 'fault') fault ??= other.fault;
      if (other.kind !== 'found') return null;
      return await attempt(() => upstreams.openNar(other.value, options), other.value);
    };
    const underSamePath = (): Promise<LocatedNar | null> =>
      attempt(() => upstreams.findNar(nar.key, options), null);
    const order = recordedFirst ? [recorded, elsewhere, underSamePath] : [elsewhere, recorded, underSamePath];
    for (const open of order) {
      const found = await open?.();
      if (found !== undefined && found !== null) return found;
    }
    return { opened: fault === null ? { kind: 'missing' } : { kind: 'fault', fault }, location: null };
  }

  return {
    distrust: (key, upstream) => distrusted.add(key, upstream),

    async open(claim, options = {}) {
      return (await first(claim, options)).opened;
    },

    async locate(claim, signal) {
      const found = await first(claim, { method: 'HEAD', ...(signal === undefined ? {} : { signal }) });
      if (found.opened.kind === 'found') await leave(found.opened.body);
      const { location } = found;
      return location !== null && distrusted.has(claim.nar.key, location.upstream)
        ? { ...found, location: null }
        : found;
    },
  };
}
