import { type Compression, isCompression } from '../../nar/decompress.ts';
import { createNarDigester, type NarDigest } from '../../nar/digest.ts';
import { createSha256 } from '../../nar/sha256.ts';
import { BodyMismatchError } from '../errors.ts';

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
 * FileHash and size are checked always; NarHash inline where decoding is quick, or where no FileHash is
 * known (then nothing else would tell a wrong body).
 */
export function createBodyVerifier(expected: ExpectedBody, verify: 'nar' | 'file'): BodyVerifier {
  const { compression } = expected;
  if (!isCompression(compression)) {
    throw new BodyMismatchError(
      'encoding',
      `Compression ${JSON.stringify(compression)} of ${expected.key} is unknown`,
    );
  }
  const inline =
    compression !== 'none' && (expected.fileHash === null || (verify === 'nar' && QUICK.has(compression)));
  const fileHash = createSha256();
  const digester = inline ? createNarDigester(compression, { maxOutput: expected.narSize }) : null;
  let size = 0;

  return {
    async push(chunk) {
      size += chunk.length;
      if (expected.fileSize !== null && size > expected.fileSize) {
        throw new BodyMismatchError(
          'size',
          `${expected.key} has more than the ${expected.fileSize} bytes announced`,
        );
      }
      fileHash.update(chunk);
      if (digester !== null) await decoded(expected, () => digester.push(chunk));
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
      else if (digester !== null) assertNar(expected, await decoded(expected, () => digester.finish()));
      const checked = compression === 'none' || digester !== null;
      return { fileHash: actual, fileSize: size, verification: checked ? 'nar' : 'file' };
    },
    abort() {
      digester?.abort();
    },
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
  return {
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
  };
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

/** What does not decode is not what was announced. */
async function decoded<T>(expected: ExpectedBody, step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (error) {
    if (error instanceof BodyMismatchError) throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw new BodyMismatchError(
      'encoding',
      `${expected.key} does not decode as ${expected.compression}: ${why}`,
      {
        cause: error,
      },
    );
  }
}
