import { type Compression, DecompressionError } from '../../nar/decompress.ts';
import type { createSha256 } from '../../nar/sha256.ts';
import type { ByteStream } from '../../stream/byte-stream.ts';
import { BodyMismatchError } from '../errors.ts';
import type { CacheServices } from '../services.ts';
import { assertNar } from './body-verifier.ts';

/** What became known of a stored body. */
export type Verdict =
  | { readonly kind: 'right' }
  | { readonly kind: 'wrong'; readonly error: BodyMismatchError }
  /** It cannot be decoded here, which does not prove it wrong. */
  | { readonly kind: 'unknown'; readonly error: DecompressionError };

/** Of a decoder, in bytes: `xz -9` takes half of it. One body is decoded at a time. */
const MOST_WINDOW = 128 * 1024 * 1024;

/**
 * Decodes a stored body and compares it with what is signed of it. Consumes the stream.
 *
 * @throws what the stream throws, and what else says nothing of the body
 */
export async function judgeBody(
  { settings, digestNar }: Pick<CacheServices, 'settings' | 'digestNar'>,
  expected: Parameters<typeof assertNar>[0],
  compression: Compression,
  body: ByteStream,
): Promise<Verdict> {
  try {
    // Where there is little memory, a body that wants a larger window is right by its FileHash only.
    const limits = { maxOutput: expected.narSize, maxWindow: Math.min(MOST_WINDOW, settings.bufferLimit) };
    assertNar(expected, await digestNar(body, compression, limits));
    return { kind: 'right' };
  } catch (error) {
    if (error instanceof BodyMismatchError) return { kind: 'wrong', error };
    if (!(error instanceof DecompressionError)) throw error;
    if (error.reason !== 'corrupt') return { kind: 'unknown', error };
    const mismatch = new BodyMismatchError('encoding', `${expected.key}: ${error.message}`, { cause: error });
    return { kind: 'wrong', error: mismatch };
  }
}

/** Passes a stream on, hashing what goes by. */
export async function* hashing(
  stream: ByteStream,
  hash: ReturnType<typeof createSha256>,
): AsyncGenerator<Uint8Array, void, void> {
  for await (const chunk of stream) {
    hash.update(chunk);
    yield chunk;
  }
}
