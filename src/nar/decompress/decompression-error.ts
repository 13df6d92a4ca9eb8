import type { Compression } from './compression.ts';

/** What a failure to decompress says of the bytes. */
export type DecompressionReason =
  /** They are no whole, correct stream of their format, or hold more than they may. */
  | 'corrupt'
  /** They may be right, but use what this decoder does not know. */
  | 'unsupported'
  /** They may be right, but need more memory than is allowed, or than there is. */
  | 'resources';

/** Thrown where bytes cannot be decompressed. Only the reason `corrupt` proves them wrong. */
export class DecompressionError extends Error {
  override readonly name = 'DecompressionError';
  readonly compression: Compression;
  readonly reason: DecompressionReason;
  /** The message without what was tried. */
  readonly why: string;

  /**
   * @param why one clause without a full stop, as `the input is truncated`
   * @param options.reason default `corrupt`
   */
  constructor(
    compression: Compression,
    why: string,
    { reason = 'corrupt', ...options }: ErrorOptions & { readonly reason?: DecompressionReason } = {},
  ) {
    super(`Cannot decompress ${compression}: ${why}`, options);
    this.compression = compression;
    this.reason = reason;
    this.why = why;
  }
}

/** For a decoder that met the end of its input before the end that its format marks. */
export function truncated(compression: Compression): DecompressionError {
  return new DecompressionError(compression, 'the input is truncated');
}

/** For an output that would pass its limit, in bytes: it is not what its size was said to be. */
export function outputTooLarge(compression: Compression, maxOutput: number): DecompressionError {
  return new DecompressionError(compression, `the output is larger than ${maxOutput} bytes`);
}

/** For a window that takes more bytes than are allowed. */
export function windowTooLarge(
  compression: Compression,
  window: number,
  maxWindow: number,
): DecompressionError {
  const why = `the window takes ${window} bytes, more than the ${maxWindow} allowed`;
  return new DecompressionError(compression, why, { reason: 'resources' });
}
