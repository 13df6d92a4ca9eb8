import type { ByteStream } from '../../stream/byte-stream.ts';
import { createHexSha256 } from './digest.ts';

/** Bytes of the first buffer of a body whose size is not known: most are small. */
const FIRST_BUFFER = 64 * 1024;

/** A piece of a body, as one request takes it. */
export interface Part {
  readonly bytes: Uint8Array;
  /** Hexadecimal. */
  readonly sha256: string;
  /** Whether the body ends with it: its source ended well. */
  readonly last: boolean;
}

/** Cuts a body into parts. */
export interface PartCutter {
  /**
   * All parts have `partSize` bytes but the last, which has as many or fewer. At least one; a body of no
   * bytes has one of none.
   */
  parts(chunks: ByteStream): AsyncGenerator<Part, void, void>;
  /** Gives the memory of a part back, to be used for a later one. */
  release(part: Part): void;
}

/**
 * @param partSize bytes
 * @param size bytes of the whole body, where they are known
 */
export function createPartCutter(partSize: number, size: number | undefined): PartCutter {
  const spare: Uint8Array[] = [];
  // Nobody knows when a garbage collector returns 8 MiB: what was sent is filled again.
  const nextBuffer = (remaining: number): Uint8Array =>
    spare.pop() ?? new Uint8Array(Math.min(partSize, remaining));

  async function* parts(chunks: ByteStream): AsyncGenerator<Part, void, void> {
    let buffer: Uint8Array = new Uint8Array(Math.min(partSize, size ?? FIRST_BUFFER));
    let filled = 0;
    let cut = 0;
    let hash = createHexSha256();
    for await (const chunk of chunks) {
      for (let at = 0; at < chunk.length;) {
        if (filled === partSize) {
          yield { bytes: buffer, sha256: hash.digest(), last: false };
          cut += partSize;
          buffer = nextBuffer((size ?? Number.POSITIVE_INFINITY) - cut);
          hash = createHexSha256();
          filled = 0;
        }
        if (filled === buffer.length) buffer = grown(buffer, partSize);
        const piece = chunk.subarray(at, at + buffer.length - filled);
        buffer.set(piece, filled);
        hash.update(piece);
        filled += piece.length;
        at += piece.length;
      }
    }
    yield { bytes: buffer.subarray(0, filled), sha256: hash.digest(), last: true };
  }

  return {
    parts,
    release({ bytes }) {
      if (bytes.length === partSize) spare.push(bytes);
    },
  };
}

function grown(buffer: Uint8Array, limit: number): Uint8Array {
  const larger = new Uint8Array(Math.min(limit, Math.max(FIRST_BUFFER, buffer.length * 2)));
  larger.set(buffer);
  return larger;
}
