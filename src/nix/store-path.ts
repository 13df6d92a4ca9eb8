import { isNix32Alphabet } from './base32.ts';
import { FormatError } from './format-error.ts';

/** The store directory of nearly every Nix installation. */
export const DEFAULT_STORE_DIR = '/nix/store';

/** Characters of the hash part: 160 bits in nix32. */
const HASH_LENGTH = 32;

/** The longest name, in characters (`StorePath::MaxPathLen` in Nix). */
const NAME_LIMIT = 211;

/** A path directly in a store directory. */
export interface StorePath {
  /** Absolute, without a final slash. */
  readonly storeDir: string;
  /** 32 characters of nix32. */
  readonly hash: string;
  readonly name: string;
}

/** ASCII codes that a name may have: letters, digits and `+-._?=`. */
const NAME_CODES = new Uint8Array(128);
for (const character of 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-._?=') {
  NAME_CODES[character.charCodeAt(0)] = 1;
}

/**
 * A full store path, as `/nix/store/<hash>-<name>`. The text must be in this form already: no
 * doubled or final slashes, nothing below the store path.
 *
 * @throws FormatError
 */
export function parseStorePath(text: string, storeDir: string = DEFAULT_STORE_DIR): StorePath {
  if (!text.startsWith(`${storeDir}/`)) {
    throw new FormatError(
      'store path',
      'path',
      text,
      `not in the store directory ${JSON.stringify(storeDir)}`,
    );
  }
  return parseStorePathBaseName(text.slice(storeDir.length + 1), storeDir);
}

/**
 * The last part of a store path, `<hash>-<name>`, as references are written in a narinfo.
 *
 * @throws FormatError
 */
export function parseStorePathBaseName(text: string, storeDir: string = DEFAULT_STORE_DIR): StorePath {
  const fault = faultOfBaseName(text);
  if (fault !== null) throw new FormatError('store path', 'base name', text, fault);
  return { storeDir, hash: text.slice(0, HASH_LENGTH), name: text.slice(HASH_LENGTH + 1) };
}

/** What is wrong with a `<hash>-<name>`, as one clause; null if nothing is. */
export function faultOfBaseName(text: string): string | null {
  if (text.length < HASH_LENGTH || !isStorePathHash(text.slice(0, HASH_LENGTH))) {
    return `expected to begin with ${HASH_LENGTH} nix32 digits`;
  }
  if (text.charAt(HASH_LENGTH) !== '-') return 'expected a dash between hash and name';
  return faultOfName(text, HASH_LENGTH + 1);
}

/** The rules of `checkName` in Nix 2.36 (`src/libstore/path.cc`), for the name that begins at `start`. */
function faultOfName(text: string, start: number): string | null {
  const length = text.length - start;
  if (length === 0) return 'the name is empty';
  if (length > NAME_LIMIT) return `the name is longer than ${NAME_LIMIT} characters`;
  for (let at = start; at < text.length; at++) {
    if (NAME_CODES[text.charCodeAt(at)] !== 1) {
      return `the name has the character ${JSON.stringify(text.charAt(at))}`;
    }
  }
  if (text.charAt(start) === '.') {
    const afterDots = text.charAt(start + 1) === '.' ? start + 2 : start + 1;
    if (afterDots === text.length || text.charAt(afterDots) === '-') {
      return `the name, or its first part before a dash, is ${JSON.stringify(text.slice(start, afterDots))}`;
    }
  }
  return null;
}

/** The full path, as `/nix/store/<hash>-<name>`. */
export function formatStorePath(path: StorePath): string {
  return `${path.storeDir}/${path.hash}-${path.name}`;
}

/** `<hash>-<name>` */
export function storePathBaseName(path: StorePath): string {
  return `${path.hash}-${path.name}`;
}

/** Whether the text could be the hash part of a store path: 32 characters of nix32. */
export function isStorePathHash(text: string): boolean {
  return text.length === HASH_LENGTH && isNix32Alphabet(text);
}
