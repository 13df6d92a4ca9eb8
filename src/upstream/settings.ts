/** How patient the client of the upstreams is. All times in milliseconds. */
export interface UpstreamSettings {
  /** How long an accepted answer of a worse priority waits for a better one that is still on its way. */
  readonly hedgeMs: number;
  /** Overall time for one narinfo, retries included; what has not answered by then is a fault. */
  readonly narInfoDeadlineMs: number;
  /** Time for the headers of one attempt at a narinfo or nix-cache-info. */
  readonly narInfoHeadersTimeoutMs: number;
  /** Time for the headers of one attempt at a NAR: some caches fetch or compress it first. */
  readonly narHeadersTimeoutMs: number;
  /** How long a body may stand still. */
  readonly idleTimeoutMs: number;
  /** Attempts at one request, the first one included. */
  readonly attempts: number;
  /** Back-off with full jitter: a random time below `base * 2^n`, and below the cap. */
  readonly backoffBaseMs: number;
  readonly backoffCapMs: number;
  /** The longest `Retry-After` that is waited for; a longer one is a fault at once. */
  readonly retryAfterCapMs: number;
  /**
   * Requests in a row (retries included in each) that must fail before the circuit opens. Nix makes five
   * attempts, so a single upstream that is dead no longer spoils the answer within one client's patience.
   */
  readonly circuitThreshold: number;
  /** How long the circuit stays open at first; doubled with each failed probe up to the maximum. */
  readonly circuitOpenMs: number;
  readonly circuitMaxOpenMs: number;
  /** How long an upstream's nix-cache-info is believed, … */
  readonly cacheInfoTtlMs: number;
  /** … and how long it is not asked for again when it could not be read. */
  readonly cacheInfoRetryMs: number;
}

export const DEFAULT_UPSTREAM_SETTINGS: UpstreamSettings = {
  hedgeMs: 150,
  narInfoDeadlineMs: 10_000,
  narInfoHeadersTimeoutMs: 5_000,
  narHeadersTimeoutMs: 15_000,
  idleTimeoutMs: 30_000,
  attempts: 3,
  backoffBaseMs: 100,
  backoffCapMs: 2_000,
  retryAfterCapMs: 3_000,
  circuitThreshold: 3,
  circuitOpenMs: 10_000,
  circuitMaxOpenMs: 60_000,
  cacheInfoTtlMs: 15 * 60_000,
  cacheInfoRetryMs: 30_000,
};

/** Bytes of the largest narinfo or nix-cache-info that is read. */
export const SMALL_BODY_LIMIT: number = 1024 * 1024;

/** Bytes of the largest NAR that comes out of a `Content-Encoding`. */
export const DECODED_NAR_LIMIT: number = 64 * 1024 ** 3;
