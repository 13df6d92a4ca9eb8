import { Buffer } from 'node:buffer';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeBase64, encodeBase64 } from '../../../src/nix/base64.ts';

describe('base64', () => {
  it('is the base64 of RFC 4648, both ways', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        const text = Buffer.from(bytes).toString('base64');
        expect(encodeBase64(bytes)).toBe(text);
        expect(decodeBase64(text)).toEqual(bytes);
      }),
    );
  });

  it('may lack its padding altogether', () => {
    expect(decodeBase64('TQ')).toEqual(Uint8Array.of(0x4d));
    expect(decodeBase64('TWE')).toEqual(Uint8Array.of(0x4d, 0x61));
  });

  it.each([
    ['half a padding', 'TQ='],
    ['too much padding', 'TWE=='],
    ['padding alone', '===='],
    ['a single character', 'T'],
    ['white space', 'TW E='],
    ['a line feed at the end', 'TWFu\n'],
    ['the alphabet for URLs', 'T-_='],
    ['characters after the padding', 'TQ==TQ=='],
    ['non-zero bits past the last byte', 'TR=='],
    ['characters beyond ASCII', 'TQé='],
  ])('refuses %s', (_, text) => {
    expect(decodeBase64(text)).toBeNull();
  });
});
