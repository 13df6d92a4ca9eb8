/**
 * What can go wrong for a client, told apart by what it should do next. The server maps each kind to
 * one HTTP status, in one place.
 */
export type CacheErrorKind =
  /** A source that counts could not be asked: the same request may succeed soon. */
  | 'fault'
  /** The same, and time ran out. */
  | 'timeout'
  /** Deliberate push-back: every budget is taken. */
  | 'busy'
  /** Nothing is wrong, but this costs more than is allowed: the same request will not succeed. */
  | 'limit';

/** Stable words for programs; documented in the README. */
export type CacheErrorCode =
  | 'upstream_unreachable'
  | 'upstream_timeout'
  | 'upstream_invalid'
  | 'index_unavailable'
  | 'storage_unavailable'
  | 'body_mismatch'
  | 'too_many_transfers'
  | 'fill_scheduled'
  | 'not_listable'
  | 'shutting_down'
  /** A fault of our own; the log has it. */
  | 'internal_error';

/** The one error of the use cases. Its message may be shown to clients: it never holds a secret. */
export class CacheError extends Error {
  override readonly name = 'CacheError';
  readonly kind: CacheErrorKind;
  readonly code: CacheErrorCode;

  constructor(kind: CacheErrorKind, code: CacheErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.kind = kind;
    this.code = code;
  }
}

/** A body that is not what was signed or announced: whoever read it must not see a clean end. */
export class BodyMismatchError extends CacheError {
  /** For metrics: what differed. */
  readonly reason: 'size' | 'file-hash' | 'nar-hash' | 'encoding';

  constructor(reason: BodyMismatchError['reason'], message: string, options?: ErrorOptions) {
    super('fault', 'body_mismatch', message, options);
    this.reason = reason;
  }
}
