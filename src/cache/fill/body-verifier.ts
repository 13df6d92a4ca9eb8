import { type Compression, DecompressionError, isCompression } from '../../nar/decompress.ts';
import { createNarDigester, type NarDigest } from '../../nar/digest.ts';
import { createSha256 } from '../../nar/sha256.ts';
import type { Budget } from '../budget.ts';
import { BodyMismatchError, CacheError } from '../errors.ts';
import { tracedVerifier } from './traced-verifier.ts';

/** What is known of a body before it is read; it is verified against all of it. */
export interface ExpectedBody {
  /** Storage key, for messages. */
  readonly key: string;
  readonly compression: string;
  /** `sha256:<nix32>` of the encoded body; null where nobody told. */
  readonly fileHash: string | null;
  /** Bytes of the encoded body; null where nobody told. */
  readonly fileSize: number | null;
  /** `sha256:<nix32>` of the NAR: signed. */
  readonly narHash: string;
  /** Bytes of the NAR: signed. */
  readonly narSize: number;
}

export interface VerifiedBody {
  readonly fileHash: string;
  readonly fileSize: number;
  /** `file` where NarHash is still to be checked, in the background. */
  readonly verification: 'file' | 'nar';
}

/** Checks a body while it passes by. */
export interface BodyVerifier {
  /** @throws BodyMismatchError as soon as the body cannot be right any more */
  push(chunk: Uint8Array): Promise<void>;
  /** @throws BodyMismatchError where the whole is not what was expected */
  finish(): Promise<VerifiedBody>;
  /** Frees what it holds; safe after `finish`. */
  abort(): void;
}

/** Decoded at the speed at which they arrive; xz and bzip2 are not. */
const QUICK: ReadonlySet<Compression> = new Set(['zstd', 'br', 'gzip']);

/**
 * The most bytes that the window of a decoder may take while a body passes: any number of them run at once. `xz -6`,
 * `zstd -19` and all that Nix writes by default need no more.
 */
const MOST_INLINE_WINDOW = 8 * 1024 * 1024;

/** What decoders take whose format sets it, in bytes. */
const FIXED_WINDOW: Readonly<Partial<Record<Compression, number>>> = {
  gzip: 32 * 1024,
  bzip2: 4 * 1024 * 1024,
};

/**
 * FileHash and size are checked always; NarHash inline where decoding is quick, or where no FileHash is known (then
 * nothing else would tell a wrong body). Where a FileHash is known and the NAR cannot be decoded within the memory
 * there is, the body counts as verified by its FileHash only.
 *
 * @param buffers from which the decoder's window is taken, until the verifier has finished or is aborted
 * @returns null where `buffers` has no room for the window, and no FileHash is known
 * @throws BodyMismatchError for an unknown compression
 */
export function createBodyVerifier(
  expected: ExpectedBody,
  verify: 'nar' | 'file',
  buffers: Budget,
): BodyVerifier | null {
  const { compression } = expected;
  if (!isCompression(compression)) {
    throw new BodyMismatchError(
      'encoding',
      `Compression ${JSON.stringify(compression)} of ${expected.key} is unknown`,
    );
  }
  const inline =
    compression !== 'none' && (expected.fileHash === null || (verify === 'nar' && QUICK.has(compression)));
  const nar = inline ? createInlineNar(expected, compression, buffers) : null;
  if (inline && nar === null && expected.fileHash === null) return null;
  const fileHash = createSha256();
  let size = 0;

  return tracedVerifier(expected.key, {
    async push(chunk) {
      size += chunk.length;
      if (expected.fileSize !== null && size > expected.fileSize) {
        throw new BodyMismatchError(
          'size',
          `${expected.key} has more than the ${expected.fileSize} bytes announced`,
        );
      }
      fileHash.update(chunk);
      await nar?.push(chunk);
    },
    async finish() {
      if (expected.fileSize !== null && size !== expected.fileSize) {
        throw new BodyMismatchError(
          'size',
          `${expected.key} has ${size} bytes, ${expected.fileSize} were announced`,
        );
      }
      const actual = fileHash.digest();
      if (expected.fileHash !== null && actual !== expected.fileHash) {
        throw new BodyMismatchError(
          'file-hash',
          `${expected.key} has FileHash ${actual}, expected ${expected.fileHash}`,
        );
      }
      if (compression === 'none') assertNar(expected, { narHash: actual, narSize: size });
      const checked = compression === 'none' || ((await nar?.finish()) ?? false);
      return { fileHash: actual, fileSize: size, verification: checked ? 'nar' : 'file' };
    },
    abort() {
      nar?.abort();
    },
  });
}

/** The NAR of a body, decoded while the body passes by. */
interface InlineNar {
  /** @throws as `finish` does, as soon as that is known */
  push(chunk: Uint8Array): Promise<void>;
  /**
   * @returns whether the NAR is the one that was signed; false where that could not be told and a FileHash is known
   * @throws BodyMismatchError where it is not; CacheError where that could not be told and nothing else would tell
   */
  finish(): Promise<boolean>;
  abort(): void;
}

/** @returns null where `buffers` has no room for the decoder's window */
function createInlineNar(
  expected: ExpectedBody,
  compression: Compression,
  buffers: Budget,
): InlineNar | null {
  // What is decoded never fills more of a window than there is of the NAR.
  const most = FIXED_WINDOW[compression] ?? MOST_INLINE_WINDOW;
  const bytes = Math.min(most, expected.narSize);
  const window = expected.fileHash === null ? buffers.reserve(bytes) : buffers.reserveIfAmple(bytes);
  if (window === null) return null;
  const limits = { maxOutput: expected.narSize, maxWindow: MOST_INLINE_WINDOW };
  const digester = createNarDigester(compression, limits);
  let state: 'decoding' | 'given up' | 'ended' = 'decoding';

  function end(reason: 'given up' | 'ended'): void {
    if (state === 'decoding') state = reason;
    digester.abort();
    window?.release();
  }

  /** What the step gives; null once the decoder has given up a body that its FileHash vouches for. */
  async function decoded<T>(step: () => Promise<T>): Promise<T | null> {
    if (state === 'given up') return null;
    try {
      return await step();
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      if (error instanceof DecompressionError && error.reason === 'corrupt') {
        throw new BodyMismatchError('encoding', `${expected.key} does not decode as ${compression}: ${why}`, {
          cause: error,
        });
      }
      // Our own limit, or lack of memory: it says nothing of the body.
      if (state === 'ended' || expected.fileHash === null) {
        throw new CacheError('fault', 'internal_error', `${expected.key} cannot be verified here: ${why}`, {
          cause: error,
        });
      }
      end('given up');
      return null;
    }
  }

  return {
    async push(chunk) {
      await decoded(() => digester.push(chunk));
    },
    async finish() {
      const digest = await decoded(() => digester.finish());
      end('ended');
      if (digest === null) return false;
      assertNar(expected, digest);
      return true;
    },
    abort: () => end('ended'),
  };
}

/**
 * Checks a body of which only the FileHash is known.
 *
 * @param key for messages
 * @param fileHash `sha256:<nix32>`
 */
export function createFileVerifier(key: string, fileHash: string): BodyVerifier {
  const sum = createSha256();
  let size = 0;
  return tracedVerifier(key, {
    push(chunk) {
      size += chunk.length;
      sum.update(chunk);
      return Promise.resolve();
    },
    finish() {
      return new Promise((resolve) => {
        const actual = sum.digest();
        if (actual !== fileHash) {
          throw new BodyMismatchError('file-hash', `${key} has FileHash ${actual}, expected ${fileHash}`);
        }
        resolve({ fileHash, fileSize: size, verification: 'file' });
      });
    },
    abort: () => undefined,
  });
}

/** @throws BodyMismatchError where the NAR is not the one that was signed */
export function assertNar(expected: Pick<ExpectedBody, 'key' | 'narHash' | 'narSize'>, nar: NarDigest): void {
  if (nar.narSize !== expected.narSize) {
    throw new BodyMismatchError(
      'size',
      `${expected.key} holds a NAR of ${nar.narSize} bytes, ${expected.narSize} are signed`,
    );
  }
  if (nar.narHash !== expected.narHash) {
    throw new BodyMismatchError(
      'nar-hash',
      `${expected.key} has NarHash ${nar.narHash}, ${expected.narHash} is signed`,
    );
  }
}
