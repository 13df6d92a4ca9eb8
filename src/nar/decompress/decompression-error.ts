import type { Compression } from './compression.ts';

/** Thrown where bytes are not a whole, correct stream of their format, or ask for more than is allowed. */
export class DecompressionError extends Error {
  override readonly name = 'DecompressionError';
  readonly compression: Compression;

  /** @param why one clause without a full stop, as `the input is truncated` */
  constructor(compression: Compression, why: string, options?: ErrorOptions) {
    super(`Cannot decompress ${compression}: ${why}`, options);
    this.compression = compression;
  }
}

/** For a decoder that met the end of its input before the end that its format marks. */
export function truncated(compression: Compression): DecompressionError {
  return new DecompressionError(compression, 'the input is truncated');
}

/** For an output that would pass its limit, in bytes. */
export function outputTooLarge(compression: Compression, maxOutput: number): DecompressionError {
  return new DecompressionError(compression, `the output is larger than ${maxOutput} bytes`);
}
