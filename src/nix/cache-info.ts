import { FormatError } from './format-error.ts';
import { DEFAULT_STORE_DIR } from './store-path.ts';

/** The largest text that is read, in characters. */
const SIZE_LIMIT = 64 * 1024;

/** What a cache says of itself at `nix-cache-info`. */
export interface CacheInfo {
  /** The store directory of its paths. */
  readonly storeDir: string;
  /** Whether clients may ask it for many paths at once without being wished to. */
  readonly wantMassQuery: boolean;
  /** Lower is asked first; null where the cache does not say. */
  readonly priority: number | null;
  /** Unknown fields, in order. */
  readonly extra: readonly (readonly [name: string, value: string])[];
}

/**
 * Reads a `nix-cache-info` as Nix does: lines without a colon are skipped, white space around values is dropped,
 * `WantMassQuery` is true for `1` only. A missing `StoreDir` is `/nix/store`.
 *
 * @throws FormatError if a known field is there twice, StoreDir is not an absolute path, Priority is
 *   not a whole number, or the text is longer than 64 KiB
 */
export function parseCacheInfo(text: string): CacheInfo {
  if (text.length > SIZE_LIMIT) {
    throw new FormatError('nix-cache-info', 'text', text, `longer than ${SIZE_LIMIT} characters`);
  }
  const known = new Map<string, string>();
  const extra: (readonly [string, string])[] = [];
  for (const line of text.split('\n')) {
    const colon = line.indexOf(':');
    if (colon < 0) continue;
    const name = line.slice(0, colon);
    const value = line.slice(colon + 1).trim();
    if (name !== 'StoreDir' && name !== 'WantMassQuery' && name !== 'Priority') extra.push([name, value]);
    else if (known.has(name))
      throw new FormatError('nix-cache-info', name, value, 'the field is there twice');
    else known.set(name, value);
  }
  return {
    storeDir: readStoreDir(known.get('StoreDir')),
    wantMassQuery: known.get('WantMassQuery') === '1',
    priority: readPriority(known.get('Priority')),
    extra,
  };
}

function readStoreDir(value: string | undefined): string {
  if (value === undefined) return DEFAULT_STORE_DIR;
  if (!value.startsWith('/') || (value.length > 1 && value.endsWith('/'))) {
    throw new FormatError(
      'nix-cache-info',
      'StoreDir',
      value,
      'expected an absolute path without a final slash',
    );
  }
  return value;
}

function readPriority(value: string | undefined): number | null {
  if (value === undefined) return null;
  if (!/^[+-]?\d{1,10}$/.test(value)) {
    throw new FormatError('nix-cache-info', 'Priority', value, 'expected a whole number');
  }
  return Number(value);
}

/** The text of a `nix-cache-info`, in the order in which cache.nixos.org has it, every line with its end. */
export function formatCacheInfo(info: CacheInfo): string {
  let text = `StoreDir: ${info.storeDir}\nWantMassQuery: ${info.wantMassQuery ? '1' : '0'}\n`;
  if (info.priority !== null) text += `Priority: ${info.priority}\n`;
  for (const [name, value] of info.extra) text += `${name}: ${value}\n`;
  return text;
}
