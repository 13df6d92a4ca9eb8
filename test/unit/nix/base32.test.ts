import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeNix32, encodeNix32, isNix32Alphabet, nix32Length } from '../../../src/nix/base32.ts';
import { FormatError } from '../../../src/nix/format-error.ts';

/** Null where the text is refused; any other error is passed on. */
function decodedOrRefused(text: string): Uint8Array | null {
  try {
    return decodeNix32(text);
  } catch (error) {
    if (error instanceof FormatError) return null;
    throw error;
  }
}

describe('nix32', () => {
  it('puts the least significant bits into the last character', () => {
    expect(encodeNix32(Uint8Array.of(0x1f))).toBe('0z');
    expect(encodeNix32(Uint8Array.of(0x01, 0x00))).toBe('0001');
    expect(encodeNix32(new Uint8Array())).toBe('');
  });

  it('gives back the bytes that were encoded, at the length foretold', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
        const text = encodeNix32(bytes);
        expect(text).toHaveLength(nix32Length(bytes.length));
        expect(isNix32Alphabet(text)).toBe(true);
        expect(decodeNix32(text)).toEqual(bytes);
      }),
    );
  });

  it('has one text only for the same bytes: what decodes encodes to itself', () => {
    const digit = fc.constantFrom(...'0123456789abcdfghijklmnpqrsvwxyz'.split(''));
    fc.assert(
      fc.property(fc.string({ unit: digit, maxLength: 60 }), (text) => {
        const bytes = decodedOrRefused(text);
        expect(bytes === null ? text : encodeNix32(bytes)).toBe(text);
      }),
    );
  });

  it.each(['e', 'o', 'u', 't', 'A', 'Z', '-', ' ', '\0', 'é', '€'])(
    'refuses the character %j',
    (character) => {
      expect(isNix32Alphabet(`0${character}`)).toBe(false);
      expect(() => decodeNix32(`0${character}`)).toThrow(FormatError);
    },
  );

  it('refuses bits past the last byte that are not zero', () => {
    expect(decodeNix32('7z')).toEqual(Uint8Array.of(0xff));
    expect(() => decodeNix32('8z')).toThrow('the bits past the last byte are not zero');
    expect(() => decodeNix32('zz')).toThrow('the bits past the last byte are not zero');
  });

  it.each([1, 3, 6, 9, 11])('refuses %i characters, which no number of whole bytes takes', (length) => {
    expect(() => decodeNix32('0'.repeat(length))).toThrow(`${length} characters do not make whole bytes`);
  });
});
