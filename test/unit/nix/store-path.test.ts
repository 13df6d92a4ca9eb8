import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FormatError } from '../../../src/nix/format-error.ts';
import {
  formatStorePath,
  isStorePathHash,
  parseStorePath,
  parseStorePathBaseName,
  storePathBaseName,
} from '../../../src/nix/store-path.ts';

const HASH = 'rb6gxn02n4kvh8rmg890qfwg9vylbkq7';

const anyHash = fc.string({
  unit: fc.constantFrom(...'0123456789abcdfghijklmnpqrsvwxyz'.split('')),
  minLength: 32,
  maxLength: 32,
});
const nameCharacters = 'ABCXYZabcxyz0189+-._?=';
const anyName = fc
  .string({ unit: fc.constantFrom(...nameCharacters.split('')), minLength: 1, maxLength: 211 })
  .filter((name) => !/^\.\.?(-|$)/.test(name));

describe('store paths', () => {
  it('come back from their text', () => {
    fc.assert(
      fc.property(
        anyHash,
        anyName,
        fc.constantFrom('/nix/store', '/gnu/store', '/a'),
        (hash, name, storeDir) => {
          const path = { storeDir, hash, name };
          expect(parseStorePath(formatStorePath(path), storeDir)).toEqual(path);
          expect(parseStorePathBaseName(storePathBaseName(path), storeDir)).toEqual(path);
        },
      ),
    );
  });

  it('are in /nix/store unless another store directory is given', () => {
    expect(parseStorePath(`/nix/store/${HASH}-top`)).toEqual({
      storeDir: '/nix/store',
      hash: HASH,
      name: 'top',
    });
    expect(() => parseStorePath(`/gnu/store/${HASH}-top`)).toThrow('not in the store directory "/nix/store"');
  });

  it.each(['a', '.a', '..a', '...', '.a-b', '-', '-.', 'a..', '=?+_-.', 'a'.repeat(211)])(
    'may have the name %j',
    (name) => {
      expect(parseStorePathBaseName(`${HASH}-${name}`).name).toBe(name);
    },
  );

  it.each([
    ['an empty name', '', 'the name is empty'],
    ['212 characters', 'a'.repeat(212), 'longer than 211 characters'],
    ['the name .', '.', 'is "."'],
    ['the name ..', '..', 'is ".."'],
    ['a first part .', '.-a', 'is "."'],
    ['a first part ..', '..-a', 'is ".."'],
    ['a slash', 'a/b', 'has the character "/"'],
    ['a space', 'a b', 'has the character " "'],
    ['a line feed', 'a\n', String.raw`has the character "\n"`],
    ['a zero byte', 'a\0', String.raw`has the character "\u0000"`],
    ['a letter beyond ASCII', 'ä', 'has the character "ä"'],
    ['a percent sign', 'a%2fb', 'has the character "%"'],
  ])('are refused with %s in the name', (_, name, why) => {
    expect(() => parseStorePathBaseName(`${HASH}-${name}`)).toThrow(why);
    expect(() => parseStorePath(`/nix/store/${HASH}-${name}`)).toThrow(FormatError);
  });

  it.each([
    ['nothing', ''],
    ['the hash alone', HASH],
    ['a hash too short', `${HASH.slice(1)}-a`],
    ['a hash too long', `0${HASH}-a`],
    ['a hash with the letter e', `e${HASH.slice(1)}-a`],
    ['a hash in upper case', `${HASH.toUpperCase()}-a`],
    ['another separator', `${HASH}_a`],
  ])('are refused with %s', (_, text) => {
    expect(() => parseStorePathBaseName(text)).toThrow(FormatError);
    expect(() => parseStorePath(`/nix/store/${text}`)).toThrow(FormatError);
  });

  it.each([
    ['a doubled slash', `/nix/store//${HASH}-a`],
    ['a final slash', `/nix/store/${HASH}-a/`],
    ['a file below it', `/nix/store/${HASH}-a/bin/a`],
    ['the store directory alone', '/nix/store'],
    ['a sibling of the store directory', `/nix/stores/${HASH}-a`],
    ['a way up', `/nix/store/../store/${HASH}-a`],
  ])('are refused in full with %s', (_, text) => {
    expect(() => parseStorePath(text)).toThrow(FormatError);
  });

  it('are told by a hash part of 32 nix32 characters', () => {
    expect(isStorePathHash(HASH)).toBe(true);
    expect(isStorePathHash(`${HASH}0`)).toBe(false);
    expect(isStorePathHash(HASH.slice(1))).toBe(false);
    expect(isStorePathHash(`${HASH.slice(1)}u`)).toBe(false);
    expect(isStorePathHash(`${HASH.slice(1)}/`)).toBe(false);
  });
});

describe('FormatError', () => {
  it('names field and value, and shortens only what the message shows', () => {
    const error = new FormatError('narinfo', 'URL', 'x'.repeat(5000), 'too long');
    expect(error.message).toMatch(/^Cannot parse narinfo: URL "x{120}… \(5000 characters\)": too long$/);
    expect(error).toMatchObject({
      name: 'FormatError',
      field: 'URL',
      value: 'x'.repeat(5000),
      why: 'too long',
    });
  });
});
