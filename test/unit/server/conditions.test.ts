import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ifNoneMatchHits, ifRangeHolds, parseRange } from '../../../src/server/conditions.ts';
import { resolveRange } from '../../../src/storage/blob-store.ts';

describe('parseRange', () => {
  it('reads every single range of bytes', () => {
    const position = fc.nat(2 ** 40);
    fc.assert(
      fc.property(position, position, (a, b) => {
        const [start, end] = [Math.min(a, b), Math.max(a, b)];
        expect(parseRange(`bytes=${start}-${end}`)).toEqual({ start, end });
        expect(parseRange(`bytes=${start}-`)).toEqual({ start });
        expect(parseRange(`bytes=-${end}`)).toEqual({ suffix: end });
        if (start < end) expect(parseRange(`bytes=${end}-${start}`)).toBeNull();
      }),
    );
  });

  it('gives for any text a range of safe integers or null', () => {
    const texts = fc.oneof(fc.string(), fc.stringMatching(/^ ?bytes=[0-9,\- ]{0,24}$/));
    fc.assert(
      fc.property(texts, fc.nat(1_000_000), (text, size) => {
        const range = parseRange(text);
        if (range === null) return;
        for (const value of Object.values(range)) expect(Number.isSafeInteger(value)).toBe(true);
        const resolved = resolveRange(range, size);
        if (resolved === null) return;
        expect(resolved.start).toBeLessThanOrEqual(resolved.end);
        expect(resolved.end).toBeLessThan(size);
      }),
    );
  });

  it.each([
    undefined,
    '',
    'bytes',
    'bytes=',
    'bytes=-',
    'bytes=a-b',
    'bytes=1',
    'bytes=0-1,3-4',
    'bytes=5-2',
    'bytes=+1-2',
    'bytes=1-2;x',
    'bytes=1.5-2',
    'bytes=99999999999999999999-',
    'items=0-1',
    'bytes 0-1/2',
  ])('ignores %j', (header) => {
    expect(parseRange(header)).toBeNull();
  });
});

describe('If-Range', () => {
  it.each([
    [undefined, true],
    ['"tag"', true],
    [' "tag" ', true],
    ['W/"tag"', false],
    ['"other"', false],
    ['tag', false],
    ['Sat, 21 Nov 2026 07:28:00 GMT', false],
    ['', false],
  ])('%j holds for "tag": %s', (header, holds) => {
    expect(ifRangeHolds(header, '"tag"')).toBe(holds);
  });
});

describe('If-None-Match', () => {
  it.each([
    [undefined, false],
    ['"tag"', true],
    ['W/"tag"', true],
    ['"a","tag"', true],
    ['"a" , W/"tag" ', true],
    ['*', true],
    ['"other"', false],
    ['tag', false],
    ['', false],
  ])('%j hits "tag": %s', (header, hits) => {
    expect(ifNoneMatchHits(header, '"tag"')).toBe(hits);
  });
});
