import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FormatError } from '../../../src/nix/format-error.ts';
import { formatHash, isHashAlgorithm, parseHash } from '../../../src/nix/hash.ts';
import type { HashAlgorithm } from '../../../src/nix/hash.ts';

const SIZES: readonly (readonly [HashAlgorithm, number])[] = [
  ['md5', 16],
  ['sha1', 20],
  ['sha256', 32],
  ['sha512', 64],
  ['blake3', 32],
];

const anyHash = fc
  .constantFrom(...SIZES)
  .chain(([algorithm, size]) =>
    fc.uint8Array({ minLength: size, maxLength: size }).map((bytes) => ({ algorithm, bytes })),
  );

describe('hashes', () => {
  it('come back from each encoding', () => {
    fc.assert(
      fc.property(anyHash, (hash) => {
        for (const encoding of ['nix32', 'hex', 'base64', 'sri'] as const) {
          expect(parseHash(formatHash(hash, encoding))).toEqual(hash);
        }
      }),
    );
  });

  it('may leave their algorithm out where it is known', () => {
    fc.assert(
      fc.property(anyHash, (hash) => {
        for (const encoding of ['nix32', 'hex', 'base64'] as const) {
          const [, bare = ''] = formatHash(hash, encoding).split(':');
          expect(parseHash(bare, hash.algorithm)).toEqual(hash);
        }
      }),
    );
  });

  it('are written as other tools write them', () => {
    const digest = createHash('sha256').update('hello');
    const bytes = new Uint8Array(digest.digest());
    const hash = { algorithm: 'sha256', bytes } as const;
    expect(formatHash(hash, 'hex')).toBe(
      'sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824',
    );
    expect(formatHash(hash, 'sri')).toBe('sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=');
    expect(formatHash(hash, 'base64')).toBe('sha256:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=');
    expect(formatHash(hash, 'nix32')).toBe('sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic');
  });

  it('are read from hex of either case', () => {
    expect(parseHash('md5:D41D8CD98F00B204E9800998ECF8427E')).toEqual(
      parseHash('md5:d41d8cd98f00b204e9800998ecf8427e'),
    );
  });

  it.each([
    ['no algorithm', 'd41d8cd98f00b204e9800998ecf8427e', 'does not name one'],
    ['an unknown algorithm', 'sha3:d41d8cd98f00b204e9800998ecf8427e', 'expected one of'],
    ['an algorithm of other case', 'MD5:d41d8cd98f00b204e9800998ecf8427e', 'expected one of'],
    ['an algorithm that objects have', 'constructor:00', 'expected one of'],
    ['a wrong length', 'sha256:d41d8cd98f00b204e9800998ecf8427e', 'not the length of a sha256 hash'],
    ['an empty digest', 'sha256:', 'not the length of a sha256 hash'],
    ['no text', '', 'does not name one'],
    ['a hex digest with another letter', `md5:${'g'.repeat(32)}`, 'expected 16 bytes'],
    ['a nix32 digest with another letter', `sha256:${'e'.repeat(52)}`, 'is not a nix32 digit'],
    ['a nix32 digest that overflows', `sha256:${'z'.repeat(52)}`, 'bits past the last byte'],
    ['an SRI hash of another length', 'sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOL', 'expected 32 bytes'],
    ['an SRI hash in nix32', `sha256-${'0'.repeat(52)}`, 'expected 32 bytes'],
    [
      'two SRI hashes',
      'sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ= sha256-AA==',
      'expected 32 bytes',
    ],
  ])('are refused with %s', (_, text, why) => {
    expect(() => parseHash(text)).toThrow(FormatError);
    expect(() => parseHash(text)).toThrow(why);
  });

  it('are refused if they are of another algorithm than expected', () => {
    expect(() => parseHash('md5:d41d8cd98f00b204e9800998ecf8427e', 'sha256')).toThrow('expected sha256');
    expect(() => parseHash('d41d8cd98f00b204e9800998ecf8427e', 'sha256')).toThrow(FormatError);
  });

  it('have the algorithms of Nix and no others', () => {
    expect(SIZES.every(([algorithm]) => isHashAlgorithm(algorithm))).toBe(true);
    expect(['sha384', 'toString', ''].some((name) => isHashAlgorithm(name))).toBe(false);
  });
});
