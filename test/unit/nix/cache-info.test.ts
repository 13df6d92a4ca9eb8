import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatCacheInfo, parseCacheInfo } from '../../../src/nix/cache-info.ts';
import { FormatError } from '../../../src/nix/format-error.ts';

const OFFICIAL = 'StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n';

describe('nix-cache-info', () => {
  it('of cache.nixos.org is read and written unchanged', () => {
    const info = parseCacheInfo(OFFICIAL);
    expect(info).toEqual({ storeDir: '/nix/store', wantMassQuery: true, priority: 40, extra: [] });
    expect(formatCacheInfo(info)).toBe(OFFICIAL);
  });

  it('as Nix 2.8 writes it into a directory has the store directory alone', () => {
    expect(parseCacheInfo('StoreDir: /nix/store\n')).toEqual({
      storeDir: '/nix/store',
      wantMassQuery: false,
      priority: null,
      extra: [],
    });
  });

  it('comes back from its text', () => {
    const word = fc.stringMatching(/^[A-Za-z]{1,10}$/).map((name) => `X${name}`);
    fc.assert(
      fc.property(
        fc.record({
          storeDir: fc.constantFrom('/nix/store', '/gnu/store'),
          wantMassQuery: fc.boolean(),
          priority: fc.option(fc.integer({ min: -1000, max: 1_000_000 })),
          extra: fc.array(fc.tuple(word, word)),
        }),
        (info) => {
          expect(parseCacheInfo(formatCacheInfo(info))).toEqual(info);
        },
      ),
    );
  });

  it('may have blank lines, carriage returns, lines without a colon, unknown fields and no final line feed', () => {
    const text = '\r\nStoreDir:/gnu/store\r\nhello\nWantMassQuery:  0 \nPriority: 30\nFuture: a: b';
    expect(parseCacheInfo(text)).toEqual({
      storeDir: '/gnu/store',
      wantMassQuery: false,
      priority: 30,
      extra: [['Future', 'a: b']],
    });
  });

  it('wants mass queries only if it says 1', () => {
    expect(parseCacheInfo('WantMassQuery: true\n').wantMassQuery).toBe(false);
    expect(parseCacheInfo('WantMassQuery: 1\n').wantMassQuery).toBe(true);
  });

  it('without a store directory is one for /nix/store', () => {
    expect(parseCacheInfo('').storeDir).toBe('/nix/store');
  });

  it.each([
    ['Priority', 'Priority: high\n', 'high'],
    ['Priority', 'Priority: \n', ''],
    ['Priority', 'Priority: 4.5\n', '4.5'],
    ['Priority', 'Priority: 0x10\n', '0x10'],
    ['Priority', 'Priority: 99999999999\n', '99999999999'],
    ['Priority', 'Priority: 1\nPriority: 2\n', '2'],
    ['StoreDir', 'StoreDir: nix/store\n', 'nix/store'],
    ['StoreDir', 'StoreDir: /nix/store/\n', '/nix/store/'],
    ['StoreDir', 'StoreDir: \n', ''],
    ['StoreDir', 'StoreDir: /a\nStoreDir: /b\n', '/b'],
  ])('names the field %s where %j is malformed', (field, text, value) => {
    expect(() => parseCacheInfo(text)).toThrow(FormatError);
    expect(() => parseCacheInfo(text)).toThrow(
      expect.objectContaining({
        field,
        value,
        message: expect.stringContaining(`${field} "${value}"`) as string,
      }),
    );
  });

  it('is refused above 64 KiB', () => {
    expect(() => parseCacheInfo('x'.repeat(64 * 1024 + 1))).toThrow('longer than 65536 characters');
  });
});
