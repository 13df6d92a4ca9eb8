import { brotliCompressSync, constants, createZstdCompress, zstdCompressSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import {
  type Compression,
  decompress,
  DecompressionError,
  type DecompressionReason,
  type DecompressLimits,
} from '../../../src/nar/decompress.ts';
import { streamOf } from '../../../src/stream/byte-stream.ts';
import { drain, encode, hasTool, prose } from './fixtures.ts';

const bytes = prose(100_000);
const ample: DecompressLimits = { maxOutput: 2 ** 30 };

async function reasonFor(
  encoded: Uint8Array,
  compression: Compression,
  limits: Partial<DecompressLimits> = {},
): Promise<DecompressionReason> {
  const error: unknown = await drain(
    decompress(streamOf(encoded), compression, { ...ample, ...limits }),
  ).then(
    () => new Error('The input was accepted'),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof DecompressionError)) throw error;
  expect(error.message).toBe(`Cannot decompress ${compression}: ${error.why}`);
  return error.reason;
}

/** The bytes with some of them replaced. */
function changed(encoded: Uint8Array, at: number, ...values: readonly number[]): Uint8Array {
  const copy = Uint8Array.from(encoded);
  copy.set(values, at);
  return copy;
}

async function zstdWithWindow(log: number): Promise<Uint8Array> {
  const encoder = createZstdCompress({ params: { [constants.ZSTD_c_windowLog]: log } });
  encoder.write(bytes.subarray(0, 1000));
  encoder.end(bytes.subarray(1000));
  return drain(encoder);
}

/** 1 MB, so that a change in the middle meets data rather than a header. */
const large = prose(1_000_000);

describe.each(['xz', 'zstd', 'br', 'bzip2', 'gzip'] as const)('a failure to decompress %s', (format) => {
  const runs = (format !== 'xz' && format !== 'bzip2') || hasTool(format);

  it.runIf(runs)('proves input wrong that is changed, cut, of another format or too long', async () => {
    const encoded = encode(large, format);
    const half = encoded.length >> 1;
    expect(await reasonFor(encoded.subarray(0, half), format)).toBe('corrupt');
    const other = new TextEncoder().encode('<!DOCTYPE html><html></html>\n'.repeat(10));
    expect(await reasonFor(other, format)).toBe('corrupt');
    expect(await reasonFor(encoded, format, { maxOutput: large.length - 1 })).toBe('corrupt');
    if (format === 'br') return;
    expect(await reasonFor(changed(encoded, half, 1, 2, 3, 4, 5, 6, 7, 8), format)).toBe('corrupt');
  });
});

describe('a failure to decompress that is a limit of ours proves nothing', () => {
  it.runIf(hasTool('xz'))('where an xz dictionary is larger than allowed', async () => {
    expect(await reasonFor(encode(bytes, 'xz', ['-9']), 'xz', { maxWindow: 2 ** 23 })).toBe('resources');
    const larger = encode(bytes, 'xz', ['--lzma2=preset=6,dict=65MiB']);
    expect(await reasonFor(larger, 'xz')).toBe('unsupported');
  });

  it.runIf(hasTool('xz')).each([
    ['a SHA-256 check', ['--check=sha256']],
    ['a filter for machine code', ['--x86', '--lzma2=preset=6']],
  ])('where xz has %s', async (_, options) => {
    expect(await reasonFor(encode(bytes, 'xz', options), 'xz')).toBe('unsupported');
  });

  it('where a zstd window is larger than allowed', async () => {
    expect(await reasonFor(await zstdWithWindow(24), 'zstd', { maxWindow: 2 ** 23 })).toBe('resources');
    expect(await reasonFor(await zstdWithWindow(23), 'zstd', { maxWindow: 2 ** 23 - 1 })).toBe('resources');
  });

  it('where a zstd frame asks for a dictionary, or has a bit that is reserved', async () => {
    const encoded = new Uint8Array(zstdCompressSync(bytes));
    const descriptor = encoded[4] ?? 0;
    // A single segment: the dictionary's number stands behind the descriptor.
    expect(descriptor & 32).toBe(32);
    const withDictionary = Uint8Array.from([...encoded.subarray(0, 5), 7, ...encoded.subarray(5)]);
    expect(await reasonFor(changed(withDictionary, 4, descriptor | 1), 'zstd')).toBe('unsupported');
    expect(await reasonFor(changed(encoded, 4, descriptor | 8), 'zstd')).toBe('unsupported');
  });

  it('where a brotli window is larger than allowed, or than RFC 7932 knows', async () => {
    const encoded = (bits: number, largeWindow: 0 | 1): Uint8Array =>
      new Uint8Array(
        brotliCompressSync(bytes, {
          params: {
            [constants.BROTLI_PARAM_LGWIN]: bits,
            [constants.BROTLI_PARAM_LARGE_WINDOW]: largeWindow,
            [constants.BROTLI_PARAM_QUALITY]: 5,
          },
        }),
      );
    expect(await reasonFor(encoded(24, 0), 'br', { maxWindow: 2 ** 23 })).toBe('resources');
    expect(await reasonFor(encoded(28, 1), 'br')).toBe('unsupported');
  });

  it.runIf(hasTool('bzip2'))('where a block of bzip2 is randomised', async () => {
    // The bit behind the magic number and the checksum of the first block.
    const encoded = encode(bytes, 'bzip2');
    expect(await reasonFor(changed(encoded, 14, (encoded[14] ?? 0) | 0x80), 'bzip2')).toBe('unsupported');
  });
});
