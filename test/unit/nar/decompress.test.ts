import { brotliCompressSync, constants, createZstdCompress, gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  COMPRESSIONS,
  compressionExtension,
  decompress,
  DecompressionError,
  isCompression,
  type Compression,
  type DecompressLimits,
} from '../../../src/nar/decompress.ts';
import { streamOf, type ByteStream } from '../../../src/stream/byte-stream.ts';
import { chunked, drain, encode, hasTool, inChunks, noise, prose } from './fixtures.ts';

const installed = hasTool('xz') && hasTool('bzip2');
const formats = COMPRESSIONS.filter((format) => format !== 'none').filter(
  (format) => installed || (format !== 'xz' && format !== 'bzip2'),
);
const ample: DecompressLimits = { maxOutput: 2 ** 40 };

function decoded(
  bytes: Uint8Array,
  compression: Compression,
  limits: DecompressLimits = ample,
): Promise<Uint8Array> {
  return drain(decompress(streamOf(bytes), compression, limits));
}

async function errorOf(work: Promise<unknown>): Promise<DecompressionError> {
  const error: unknown = await work.then(
    () => new Error('The input was accepted'),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof DecompressionError)) throw error;
  return error;
}

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

/** A zstd frame whose header has a window instead of the size of the contents. */
async function zstdOfUnknownSize(bytes: Uint8Array, params: Record<number, number>): Promise<Uint8Array> {
  const encoder = createZstdCompress({ params });
  encoder.write(bytes.subarray(0, 1000));
  encoder.end(bytes.subarray(1000));
  return drain(encoder);
}

describe('compressions', () => {
  it('are known by the names and extensions of narinfos', () => {
    expect(COMPRESSIONS.map((format) => compressionExtension(format))).toEqual([
      '',
      '.xz',
      '.zst',
      '.br',
      '.bz2',
      '.gz',
    ]);
    expect(isCompression('zstd')).toBe(true);
    for (const name of ['', 'ZSTD', 'zst', 'lzip', 'toString']) expect(isCompression(name)).toBe(false);
  });
});

describe.each(formats)('decompress %s', (format) => {
  /** Options that make the tools of xz and bzip2 fast. */
  const fast = ['-1'];
  let zeros: Uint8Array | undefined;
  /** 100 MB of zeros, encoded once. */
  const encodedZeros = (): Uint8Array => (zeros ??= encode(new Uint8Array(100_000_000), format, fast));

  const samples = [
    ['one byte', Uint8Array.of(7)],
    ['a long run', new Uint8Array(300_000)],
    ['text', prose(200_000)],
    ['noise', noise(150_000, 3)],
    [
      "runs of lengths around the coder's limits",
      joined(...[3, 4, 5, 255, 258, 259, 260].map((size) => new Uint8Array(size).fill(size & 255))),
    ],
  ] as const;

  it.each(samples)('gives back %s', async (_, bytes) => {
    expect(await decoded(encode(bytes, format), format)).toEqual(bytes);
  });

  it('gives back what was compressed, in whatever chunks it comes', async () => {
    const bytes = joined(prose(5000), new Uint8Array(3000), noise(500, 9));
    const encoded = encode(bytes, format);
    expect(await drain(decompress(chunked(encoded, 1), format, ample))).toEqual(bytes);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 500 }), { minLength: 1 }), async (sizes) => {
        const stream = inChunks(encoded, (index) => sizes[index % sizes.length] ?? 1);
        expect(await drain(decompress(stream, format, ample))).toEqual(bytes);
      }),
      { numRuns: 25 },
    );
  });

  it('refuses input that is cut anywhere', async () => {
    const encoded = encode(prose(300), format);
    for (let length = 0; length < encoded.length; length++) {
      const error = await errorOf(decoded(encoded.subarray(0, length), format));
      expect(error.message).toBe(`Cannot decompress ${format}: the input is truncated`);
    }
  });

  it('refuses input that is cut inside of large data, after giving out no more than what was right', async () => {
    const bytes = prose(400_000);
    const encoded = encode(bytes, format);
    const given: Uint8Array[] = [];
    const read = async (): Promise<void> => {
      for await (const chunk of decompress(chunked(encoded.subarray(0, -20), 10_000), format, ample))
        given.push(chunk);
    };
    await errorOf(read());
    const whole = joined(...given);
    expect(whole).toEqual(bytes.subarray(0, whole.length));
  });

  it('refuses input of another format', async () => {
    const error = await errorOf(
      decoded(new TextEncoder().encode('<!DOCTYPE html><html></html>\n'.repeat(10)), format),
    );
    expect(error.compression).toBe(format);
  });

  it.each([1, 2, 3, 100])('refuses %i bytes that follow, in the same chunk or the next', async (size) => {
    const encoded = encode(prose(300), format);
    for (const rest of [new Uint8Array(size).fill(7), new Uint8Array(size)]) {
      // Multiples of four zeros are padding to xz.
      if (format === 'xz' && rest[0] === 0 && size % 4 === 0) continue;
      const inOne = await errorOf(decoded(joined(encoded, rest), format));
      const inTwo = await errorOf(drain(decompress(streamOf(encoded, rest), format, ample)));
      expect([inOne.compression, inTwo.compression]).toEqual([format, format]);
    }
  });

  it('never gives out other bytes for a changed input, where the format has checksums', async () => {
    if (format === 'br') return;
    const bytes = prose(200);
    const encoded = encode(bytes, format, fast);
    for (let bit = 0; bit < encoded.length * 8; bit++) {
      const wrong = encoded.slice();
      wrong[bit >> 3] = (wrong[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const read = await decoded(wrong, format).catch((error: unknown) => error);
      if (read instanceof DecompressionError) continue;
      // Bits without meaning, as the time in gzip's header.
      expect(read).toEqual(bytes);
    }
  });

  it('stops a bomb at the limit of output, not after it', async () => {
    const encoded = encodedZeros();
    let size = 0;
    const read = async (): Promise<void> => {
      for await (const chunk of decompress(streamOf(encoded), format, { maxOutput: 1_000_000 })) {
        expect(chunk.length).toBeLessThanOrEqual(66_000);
        size += chunk.length;
      }
    };
    expect((await errorOf(read())).message).toBe(
      `Cannot decompress ${format}: the output is larger than 1000000 bytes`,
    );
    expect(size).toBeLessThanOrEqual(1_000_000);
    expect(size).toBeGreaterThan(900_000);
  });

  it('accepts an output of exactly the limit', async () => {
    const encoded = encode(prose(1000), format);
    expect(await decoded(encoded, format, { maxOutput: 1000 })).toHaveLength(1000);
    await errorOf(decoded(encoded, format, { maxOutput: 999 }));
  });

  it('keeps its memory bounded over an output of 100 MB that is read slowly', async () => {
    const encoded = encodedZeros();
    let size = 0;
    let most = 0;
    const before = process.memoryUsage().arrayBuffers;
    for await (const chunk of decompress(chunked(encoded, 1000), format, ample)) {
      size += chunk.length;
      if (size % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
      most = Math.max(most, process.memoryUsage().arrayBuffers - before);
    }
    expect(size).toBe(100_000_000);
    // Garbage that is not collected yet is in it.
    expect(most).toBeLessThan(80_000_000);
  });

  it('reads no input before output is asked for, and little more than was asked for', async () => {
    const bytes = noise(2_000_000, 1);
    const stream = chunked(encode(bytes, format), 10_000);
    const output = decompress(stream, format, ample)[Symbol.asyncIterator]();
    expect(stream.pulls).toBe(0);
    await output.next();
    const pulls = stream.pulls;
    // bzip2 has to see a whole block of 900 kB before its first byte.
    expect(pulls).toBeLessThan(format === 'bzip2' ? 100 : 30);
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(stream.pulls).toBe(pulls);
    await output.return?.();
    expect(stream.cancelled).toBe(true);
  });

  it('cancels its input when it is corrupt', async () => {
    const encoded = encode(noise(300_000, 1), format);
    encoded.fill(0x55, 100, 140);
    const corrupt = chunked(joined(encoded, new Uint8Array(1_000_000)), 10_000);
    await drain(decompress(corrupt, format, { maxOutput: 100_000 })).catch(() => undefined);
    expect(corrupt.cancelled).toBe(true);
  });

  it('throws an error of its input as it is', async () => {
    const failure = new Error('The connection broke');
    const encoded = encode(prose(10_000), format);
    async function* broken(): AsyncGenerator<Uint8Array, void, void> {
      yield encoded.subarray(0, 1000);
      throw failure;
    }
    await expect(drain(decompress(broken(), format, ample))).rejects.toBe(failure);
  });

  it('decodes eight streams at once, each to its own bytes', async () => {
    const inputs = Array.from({ length: 8 }, (_, index) => prose(300_000 + index, index + 1));
    const outputs = inputs.map((bytes) =>
      decompress(chunked(encode(bytes, format, fast), 5000), format, ample),
    );
    const read = await Promise.all(outputs.map((output) => drain(output)));
    for (const [index, bytes] of inputs.entries()) expect(read[index]).toEqual(bytes);
  });

  it('lets timers run while it decodes', async () => {
    const encoded = encode(prose(2_000_000), format, fast);
    let turns = 0;
    let running = true;
    const count = (): void => {
      turns++;
      if (running) setImmediate(count);
    };
    count();
    await decoded(encoded, format);
    running = false;
    expect(turns).toBeGreaterThan(10);
  });
});

describe('decompress none', () => {
  it('gives the input, without its empty chunks, up to the limit', async () => {
    const input = streamOf(Uint8Array.of(1), Uint8Array.of(2, 3));
    expect(await drain(decompress(input, 'none', ample))).toEqual(Uint8Array.of(1, 2, 3));
    await expect(decoded(new Uint8Array(11), 'none', { maxOutput: 10 })).rejects.toThrow(
      'Cannot decompress none: the output is larger than 10 bytes',
    );
  });
});

describe('decompress several in a row', () => {
  const one = prose(6000, 1);
  const two = prose(5000, 2);

  it.each(formats.filter((format) => format !== 'br'))(
    'reads %s as its tool does, however they are cut',
    async (format) => {
      const encoded = joined(encode(one, format), encode(two, format));
      for (const size of [1, 7, 1000, encoded.length]) {
        const stream: ByteStream = chunked(encoded, size);
        expect(await drain(decompress(stream, format, ample))).toEqual(joined(one, two));
      }
      await errorOf(decoded(encoded.subarray(0, -1), format));
    },
  );

  it.runIf(installed)('reads xz with padding, with blocks, and with each check', async () => {
    const padded = joined(encode(one, 'xz'), new Uint8Array(8), encode(two, 'xz', ['-9']), new Uint8Array(4));
    expect(await decoded(padded, 'xz')).toEqual(joined(one, two));
    expect(await decoded(encode(one, 'xz', ['--block-size=1000', '-T2']), 'xz')).toEqual(one);
    for (const check of ['none', 'crc32', 'crc64']) {
      expect(await decoded(encode(one, 'xz', [`--check=${check}`]), 'xz')).toEqual(one);
    }
  });

  it.runIf(installed)('reads bzip2 of every block size, with many blocks', async () => {
    const bytes = joined(prose(250_000), new Uint8Array(250_000), noise(250_000, 4));
    for (const level of ['-1', '-2', '-9'])
      expect(await decoded(encode(bytes, 'bzip2', [level]), 'bzip2')).toEqual(bytes);
  });

  it.runIf(installed)('reads an empty bzip2 stream', async () => {
    const nothing = encode(new Uint8Array(0), 'bzip2');
    expect(await decoded(nothing, 'bzip2')).toHaveLength(0);
    expect(await decoded(joined(nothing, encode(one, 'bzip2'), nothing), 'bzip2')).toEqual(one);
  });

  it('reads zstd frames with skippable ones around, whatever their headers', async () => {
    const skippable = Uint8Array.of(0x5f, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3);
    const plain = await zstdOfUnknownSize(one, {});
    const sized = new Uint8Array(zstdCompressSync(two));
    const tiny = new Uint8Array(zstdCompressSync(Uint8Array.of(1)));
    const encoded = joined(skippable, plain, skippable, skippable, sized, tiny, skippable);
    for (const size of [1, 5, encoded.length]) {
      const output = await drain(decompress(chunked(encoded, size), 'zstd', ample));
      expect(output).toEqual(joined(one, two, Uint8Array.of(1)));
    }
  });
});

describe('decompress with a limit on windows', () => {
  const bytes = prose(100_000);

  it.runIf(installed)('refuses an xz dictionary above the limit, and any above 64 MiB', async () => {
    const encoded = encode(bytes, 'xz', ['-9']);
    expect(await decoded(encoded, 'xz', { ...ample, maxWindow: 2 ** 26 })).toEqual(bytes);
    expect((await errorOf(decoded(encoded, 'xz', { ...ample, maxWindow: 2 ** 25 }))).message).toContain(
      'the dictionary takes more than the 33554432 bytes allowed',
    );
    const larger = encode(bytes, 'xz', ['--lzma2=preset=6,dict=65MiB']);
    expect((await errorOf(decoded(larger, 'xz'))).message).toContain(
      'larger than the 64 MiB that are supported',
    );
  });

  it('refuses a zstd window above the limit', async () => {
    const encoded = await zstdOfUnknownSize(bytes, { [constants.ZSTD_c_windowLog]: 25 });
    expect(await decoded(encoded, 'zstd', { ...ample, maxWindow: 2 ** 25 })).toEqual(bytes);
    expect((await errorOf(decoded(encoded, 'zstd', { ...ample, maxWindow: 2 ** 25 - 1 }))).message).toBe(
      'Cannot decompress zstd: the window takes 33554432 bytes, more than the 33554431 allowed',
    );
    const sized = new Uint8Array(zstdCompressSync(bytes));
    await expect(decoded(sized, 'zstd', { ...ample, maxWindow: 99_999 })).rejects.toThrow(
      'takes 100000 bytes',
    );
  });

  it('refuses a brotli window above the limit, and large windows always', async () => {
    const withWindow = (bits: number, large: 0 | 1 = 0): Uint8Array =>
      new Uint8Array(
        brotliCompressSync(bytes, {
          params: {
            [constants.BROTLI_PARAM_LGWIN]: bits,
            [constants.BROTLI_PARAM_LARGE_WINDOW]: large,
            [constants.BROTLI_PARAM_QUALITY]: 5,
          },
        }),
      );
    for (const bits of [10, 15, 16, 17, 18, 22, 24]) {
      const window = 2 ** bits - 16;
      expect(await decoded(withWindow(bits), 'br', { ...ample, maxWindow: window })).toEqual(bytes);
      await expect(decoded(withWindow(bits), 'br', { ...ample, maxWindow: window - 1 })).rejects.toThrow(
        `the window takes ${window} bytes`,
      );
    }
    await errorOf(decoded(withWindow(28, 1), 'br'));
  });
});

describe('decompress what is not supported', () => {
  it.runIf(installed).each([
    ['SHA-256 checks', ['--check=sha256']],
    ['filters for machine code', ['--x86', '--lzma2=preset=6']],
  ])('says so for xz with %s', async (_, options) => {
    expect((await errorOf(decoded(encode(prose(1000), 'xz', options), 'xz'))).message).toBe(
      'Cannot decompress xz: it uses a filter or a check that is not supported',
    );
  });

  it('accepts the extra fields of gzip headers', async () => {
    const plain = new Uint8Array(gzipSync('text'));
    const named = joined(
      plain.slice(0, 10).fill(8, 3, 4),
      new TextEncoder().encode('name\0'),
      plain.subarray(10),
    );
    expect(new TextDecoder().decode(await decoded(named, 'gzip'))).toBe('text');
  });
});
