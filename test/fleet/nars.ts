import { randomInt } from 'node:crypto';
import { type SignedPath, type SignedPathOptions, signedPath } from '../support/signed-path.ts';

/** Opaque URLs, as caches have them that do not name NARs by their hash. */
const OPAQUE: readonly SignedPathOptions[] = [
  { compression: 'zstd', url: ({ hash }) => `nar/0b1c2d3e-${hash}.nar.zst` },
  { compression: 'zstd', url: ({ hash }) => `nar/${hash}.nar.zst`, fileFields: false },
  { compression: 'none', url: ({ hash }) => `nar/${hash}-serve.nar`, fileFields: false },
];

const ENCODED: readonly SignedPathOptions[] = [
  ...(['none', 'zstd', 'xz', 'zstd', 'br', 'bzip2', 'gzip', 'none'] as const).map((compression) => ({
    compression,
  })),
  ...OPAQUE,
];

/** Too large for one request to S3 each, in bytes. */
const LARGE: readonly SignedPathOptions[] = [
  { size: 30_000_000, compression: 'none' },
  { size: 12_000_000, compression: 'zstd' },
  { size: 9_000_000, compression: 'none', url: ({ hash }) => `nar/${hash}-large.nar`, fileFields: false },
  { size: 6_000_000, compression: 'gzip' },
];

/**
 * Store paths that no cache has yet: from 2 kB to 30 MB, most of them small, in every encoding, some with
 * opaque URLs. They have one file each, and no references.
 *
 * @param count how many in all
 * @param large how many of them are of more than 5 MiB, 4 at most
 */
export async function coldPaths(count: number, large: number = LARGE.length): Promise<readonly SignedPath[]> {
  const small = count - large;
  const options = [
    ...LARGE.slice(LARGE.length - large),
    // Each half again as large as the one before, over and over.
    ...Array.from({ length: small }, (_, n) => ({
      ...ENCODED[n % ENCODED.length],
      size: Math.round(2_000 * 1.5 ** (n % 16)),
    })),
  ];
  return await Promise.all(
    options.map((each, n) =>
      // Also the bytes are new: a second attempt at a test begins as cold as the first.
      signedPath({ ...each, name: `cold-${n}-${crypto.randomUUID()}`, seed: randomInt(2 ** 20) }),
    ),
  );
}
