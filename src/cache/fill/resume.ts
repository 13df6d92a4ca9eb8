import type { ByteStream } from '../../stream/byte-stream.ts';
import { TransportError } from '../../upstream/transport.ts';

/** In a row, without a byte between them. */
const MOST_ATTEMPTS = 3;

/**
 * A body that goes on where its connection broke. Correctness does not hang on it: what comes out is verified
 * as one body.
 *
 * @param reopen opens the rest from a position in bytes; null where that cannot be had
 * @throws TransportError of the break that could not be mended
 */
export async function* resuming(
  first: ByteStream,
  reopen: (position: number) => Promise<ByteStream | null>,
): AsyncGenerator<Uint8Array, void, void> {
  let body = first;
  let position = 0;
  let failures = 0;
  for (;;) {
    try {
      for await (const chunk of body) {
        position += chunk.length;
        failures = 0;
        yield chunk;
      }
      return;
    } catch (error) {
      if (!(error instanceof TransportError) || position === 0 || ++failures > MOST_ATTEMPTS) throw error;
      const rest = await reopen(position);
      if (rest === null) throw error;
      body = rest;
    }
  }
}
