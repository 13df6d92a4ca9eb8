import type { ByteStream } from '../../stream/byte-stream.ts';
import type { BodyVerifier } from './body-verifier.ts';
import { HOLD_BACK_BYTES } from './flight.ts';

/**
 * The same stream for one reader and no spool: everything but the last piece passes at once, that one
 * only after the verifier has said that the whole is right (law 1). Holds at most `HOLD_BACK_BYTES` and
 * one chunk. Consumes `stream`; throws what the verifier throws.
 *
 * @param size bytes of the whole, null where unknown
 */
export async function* heldBack(
  stream: ByteStream,
  verifier: BodyVerifier,
  size: number | null,
): AsyncGenerator<Uint8Array, void, void> {
  let held: Uint8Array[] = [];
  let received = 0;
  let passed = 0;
  try {
    for await (const chunk of stream) {
      await verifier.push(chunk);
      received += chunk.length;
      held.push(chunk);
      const allowed = Math.min(received, size ?? received) - HOLD_BACK_BYTES;
      while (passed < allowed) {
        const [first] = held;
        if (first === undefined) break;
        const piece = first.subarray(0, allowed - passed);
        if (piece.length === first.length) held.shift();
        else held[0] = first.subarray(piece.length);
        passed += piece.length;
        yield piece;
      }
    }
    await verifier.finish();
    const rest = held;
    held = [];
    yield* rest;
  } finally {
    verifier.abort();
  }
}
