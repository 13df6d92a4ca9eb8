import type { NarInfo } from '../nix/nar-info.ts';
import type { ByteRange } from '../storage/blob-store.ts';
import type { ByteStream } from '../stream/byte-stream.ts';

/**
 * The caches behind this one, asked as one. Retries, circuits, credentials, time-outs and the quirks
 * of each server are behind this interface; what an answer means for the client is not.
 */
export interface Upstreams {
  /**
   * Asks every upstream for the narinfo at once. The best-priority answer that `accept` takes wins; a
   * worse one waits a short hedge for a better one. Refused answers count as "no". What is
   * not needed any more is cancelled.
   */
  findNarInfo<Accepted>(
    hash: string,
    accept: (offer: NarInfoOffer) => Promise<Acceptance<Accepted>>,
    options?: { readonly signal?: AbortSignal },
  ): Promise<FindResult<Accepted>>;

  /**
   * Opens a NAR at the upstream that is known to have it. A transport error, 5xx or 429 is retried here
   * before it is reported as a fault.
   */
  openNar(source: NarLocation, options?: OpenNarOptions): Promise<OpenedNar>;

  /**
   * Opens a NAR whose source is not known: each upstream is asked under the same path, the best
   * priority's success wins.
   *
   * @param path with its query, as `nar/….nar.xz?x=y`
   */
  findNar(path: string, options?: OpenNarOptions): Promise<OpenedNar>;

  /**
   * The URL under which a client can fetch this NAR from the upstream itself. Does no I/O. Null where that needs
   * credentials, or the URL carries any: they are never given away (law 10); and where it leads out of the upstream.
   */
  publicUrl(location: NarLocation): string | null;

  /** Every upstream with its health, for `/readyz` and `/`. Does no I/O. */
  status(): readonly UpstreamStatus[];

  close(): Promise<void>;
}

export interface NarInfoOffer {
  readonly info: NarInfo;
  /** Base URL of the upstream, without credentials. */
  readonly upstream: string;
  /** Whether this upstream was explicitly allowed to give unsigned paths. */
  readonly allowUnsigned: boolean;
}

export type Acceptance<Accepted> =
  | { readonly accepted: true; readonly value: Accepted }
  /** A sentence for the log; null where nothing is wrong with the answer: it is "no" without a word. */
  | { readonly accepted: false; readonly reason: string | null };

export type FindResult<Accepted> =
  | { readonly kind: 'found'; readonly value: Accepted; readonly upstream: string }
  /** Every upstream that counts said no; `refused` has the reasons of answers that were not taken. */
  | { readonly kind: 'missing'; readonly refused: readonly string[] }
  | { readonly kind: 'fault'; readonly fault: UpstreamFault };

export interface NarLocation {
  /** Base URL of the upstream, without credentials, as in `NarInfoOffer`. */
  readonly upstream: string;
  /** The upstream's own `URL` of the NAR, with its query. */
  readonly url: string;
}

export interface OpenNarOptions {
  readonly method?: 'GET' | 'HEAD';
  readonly range?: ByteRange;
  readonly signal?: AbortSignal;
}

export type OpenedNar =
  | {
      readonly kind: 'found';
      readonly upstream: string;
      /**
       * Bytes of the whole NAR as encoded for the cache (a `Content-Encoding` of the
       * transfer is undone already, and then it is not known): null where unknown.
       */
      readonly size: number | null;
      /** The bytes that the body covers where a range was asked for and given; null for the whole. */
      readonly range: { readonly start: number; readonly end: number } | null;
      /** As the upstream gave it; null where it gave none. */
      readonly etag: string | null;
      /** Must be read to its end or left. Empty for HEAD. */
      readonly body: ByteStream;
    }
  | { readonly kind: 'missing' }
  /** The range lies beyond the end. */
  | { readonly kind: 'unsatisfiable'; readonly size: number | null }
  | { readonly kind: 'fault'; readonly fault: UpstreamFault };

/** Why no answer could be had. `timeout` becomes 504, the others 502. */
export interface UpstreamFault {
  readonly reason: 'unreachable' | 'timeout' | 'status' | 'invalid-answer' | 'circuit-open';
  /** One sentence, naming the upstreams, without secrets. */
  readonly message: string;
}

export interface UpstreamStatus {
  readonly url: string;
  /** Lower is better; null while its nix-cache-info was not read yet. */
  readonly priority: number | null;
  readonly circuit: 'closed' | 'open' | 'half-open';
  readonly allowUnsigned: boolean;
  /** The last fault, without secrets; null if the last exchange went well. */
  readonly lastFault: string | null;
}
