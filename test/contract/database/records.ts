import type {
  Justification,
  MetadataStore,
  NewNar,
  NewPath,
  StoredNar,
} from '../../../src/database/metadata-store.ts';

const ALPHABET = '0123456789abcdfghijklmnpqrsvwxyz';

/** A time of day that is not on the hour, in milliseconds. */
export const NOW = 1_790_000_123_456;
export const HOUR = 3_600_000;

/** The `number`th store-path hash: 32 characters of nix32. */
export function hashOf(number: number): string {
  let digits = '';
  for (let rest = number; rest > 0; rest = Math.floor(rest / 32))
    digits = ALPHABET.charAt(rest % 32) + digits;
  return digits.padStart(32, '0');
}

function baseNameOf(number: number): string {
  return `${hashOf(number)}-package-${number}`;
}

export function keyOf(number: number): string {
  return `nar/${hashOf(number)}.nar.xz`;
}

/** The `number`th path; `references` are numbers of paths. */
export function pathOf(
  number: number,
  references: readonly number[] = [],
  change: Partial<NewPath> = {},
): NewPath {
  return {
    hash: hashOf(number),
    storePath: `/nix/store/${baseNameOf(number)}`,
    narHash: `sha256:${hashOf(number).padStart(52, '1')}`,
    narSize: 1000 + number,
    references: references.map(baseNameOf),
    deriver: `${hashOf(number + 1_000_000)}-package-${number}.drv`,
    ca: null,
    signatures: [`cache.example.org-1:${'A'.repeat(86)}==`],
    extra: [],
    justification: KEY,
    origin: 'https://cache.example.org',
    recordedAt: NOW,
    ...change,
  };
}

export const KEY: Justification = {
  kind: 'key',
  publicKey: 'cache.example.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=',
};

/** The `number`th NAR. */
export function narOf(number: number, change: Partial<NewNar> = {}): NewNar {
  return {
    key: keyOf(number),
    compression: 'xz',
    fileHash: `sha256:${hashOf(number).padStart(52, '2')}`,
    fileSize: 500 + number,
    source: { upstream: 'https://cache.example.org', url: `${keyOf(number)}?source=${number}` },
    ...change,
  };
}

/** What a fill reports of the `number`th NAR. */
export function storedNar(number: number, change: Partial<StoredNar> = {}): StoredNar {
  return {
    fileHash: `sha256:${hashOf(number).padStart(52, '2')}`,
    fileSize: 500 + number,
    verification: 'file',
    at: NOW,
    ...change,
  };
}

/** Records the `number`th path with the `number`th NAR. */
export async function record(
  store: MetadataStore,
  number: number,
  references: readonly number[] = [],
): ReturnType<MetadataStore['recordPath']> {
  return await store.recordPath(pathOf(number, references), narOf(number));
}

export function sorted(hashes: readonly string[]): readonly string[] {
  return [...hashes].sort();
}
