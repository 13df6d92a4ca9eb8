import xzDecoder from '../../build/xz-decoder.wasm';
import { beforeAll, beforeEach, describe, expect, inject, it } from 'vitest';
import { COMPRESSIONS, decompress, DecompressionError } from '../../src/nar/decompress.ts';
import type { Compression, DecompressLimits } from '../../src/nar/decompress.ts';
import { digestNar } from '../../src/nar/digest.ts';
import { setXzModuleLoader } from '../../src/nar/xz-module.ts';
import { streamOf } from '../../src/stream/byte-stream.ts';
import { chunked, drain, narOf, noise, prose } from '../unit/nar/fixtures.ts';
import { encoded } from './tools.ts';

const ample: DecompressLimits = { maxOutput: 2 ** 40 };

beforeAll(() => {
  setXzModuleLoader(() => Promise.resolve(xzDecoder));
});

async function decoded(
  bytes: Uint8Array,
  format: Compression,
  limits: Partial<DecompressLimits> = {},
): Promise<Uint8Array> {
  return drain(decompress(chunked(bytes, 50_000), format, { ...ample, ...limits }));
}

async function errorOf(work: Promise<unknown>): Promise<DecompressionError> {
  const error: unknown = await work.then(
    () => new Error('The input was accepted'),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof DecompressionError)) throw error;
  return error;
}

/** Equal, without a comparison of megabytes element by element. */
function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}

const formats = COMPRESSIONS.filter((format) => format !== 'none');

describe.each(formats)('decompress %s inside workerd', (format) => {
  beforeEach(({ skip }) => {
    const reason = inject('missingTools')[format];
    if (reason !== undefined) skip(reason);
  });

  it('gives back text, noise, long runs, nothing but one byte, and megabytes', async () => {
    const samples = [
      prose(200_000),
      noise(150_000, 3),
      new Uint8Array(300_000),
      Uint8Array.of(7),
      prose(2_000_000, 2),
    ];
    for (const bytes of samples)
      expect(isSame(await decoded(await encoded(bytes, format), format), bytes)).toBe(true);
  });

  it('gives the same NAR its digest', async () => {
    const nar = narOf({ entries: [['a', { contents: prose(500_000), executable: true }]] });
    const expected = await digestNar(streamOf(nar), 'none', { maxOutput: nar.length });
    const found = await digestNar(chunked(await encoded(nar, format), 7000), format, {
      maxOutput: nar.length,
    });
    expect(found.narHash).toBe(expected.narHash);
  });

  it('pauses while its output is not taken, and stops a bomb of 30 MB at the limit', async () => {
    const bomb = await encoded(
      new Uint8Array(30_000_000),
      format,
      format === 'xz' || format === 'bzip2' ? ['-1'] : [],
    );
    let size = 0;
    const read = async (): Promise<void> => {
      for await (const chunk of decompress(streamOf(bomb), format, { maxOutput: 1_000_000 })) {
        // What the decoder had ready: it may be two pieces, never all of them.
        expect(chunk.length).toBeLessThanOrEqual(132_000);
        size += chunk.length;
      }
    };
    expect((await errorOf(read())).message).toBe(
      `Cannot decompress ${format}: the output is larger than 1000000 bytes`,
    );
    expect(size).toBeGreaterThan(800_000);
    expect(size).toBeLessThanOrEqual(1_000_000);
  });

  it('reads little more input than its output asks for', async () => {
    const stream = chunked(await encoded(noise(2_000_000, 1), format), 10_000);
    const output = decompress(stream, format, ample)[Symbol.asyncIterator]();
    expect(stream.pulls).toBe(0);
    await output.next();
    const { pulls } = stream;
    // bzip2 has to see a whole block of 900 kB before its first byte.
    expect(pulls).toBeLessThan(format === 'bzip2' ? 100 : 30);
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(stream.pulls).toBe(pulls);
    await output.return?.();
    expect(stream.cancelled).toBe(true);
  });

  it('lets other work run while it decodes', async () => {
    const bytes = await encoded(prose(1_000_000), format);
    let turns = 0;
    let running = true;
    const count = (): void => {
      turns++;
      if (running) setImmediate(count);
    };
    count();
    await drain(decompress(streamOf(bytes), format, ample));
    running = false;
    expect(turns).toBeGreaterThan(2);
  });

  it('refuses what is cut, changed, or followed by something else', async () => {
    const bytes = prose(100_000);
    const whole = await encoded(bytes, format);
    for (const length of [1, 10, 1000, whole.length >> 1, whole.length - 1]) {
      const error = await errorOf(decoded(whole.subarray(0, length), format));
      expect(error.message).toBe(`Cannot decompress ${format}: the input is truncated`);
    }
    const followed = new Uint8Array(whole.length + 7).fill(7);
    followed.set(whole);
    await errorOf(decoded(followed, format));
    await errorOf(decoded(new TextEncoder().encode('<!DOCTYPE html>\n'.repeat(20)), format));
    if (format === 'br') return;
    const changed = whole.slice();
    changed[whole.length >> 1] = (changed[whole.length >> 1] ?? 0) ^ 0x10;
    expect((await errorOf(decoded(changed, format))).reason).toBe('corrupt');
  });

  it('decodes eight streams at once, each to its own bytes', async () => {
    const inputs = Array.from({ length: 8 }, (_, index) => prose(200_000 + index, index + 1));
    const outputs = await Promise.all(
      inputs.map(async (bytes) => decoded(await encoded(bytes, format), format)),
    );
    for (const [index, bytes] of inputs.entries())
      expect(isSame(outputs[index] ?? bytes.subarray(1), bytes)).toBe(true);
  });
});

describe('limits inside workerd', () => {
  beforeEach(({ skip }) => {
    const reason = inject('missingTools')['xz'];
    if (reason !== undefined) skip(reason);
  });

  it('an xz dictionary above the limit is refused', async () => {
    const bytes = await encoded(prose(100_000), 'xz', ['-9']);
    expect(await decoded(bytes, 'xz', { maxWindow: 2 ** 26 })).toHaveLength(100_000);
    const error = await errorOf(decoded(bytes, 'xz', { maxWindow: 2 ** 25 }));
    expect(error.message).toContain('the dictionary takes more than the 33554432 bytes allowed');
    expect(error.reason).toBe('resources');
  });

  it('a brotli or zstd window above the limit is refused', async () => {
    for (const format of ['br', 'zstd'] as const) {
      const bytes = await encoded(noise(3_000_000, 5), format);
      expect(await decoded(bytes, format)).toHaveLength(3_000_000);
      const error = await errorOf(decoded(bytes, format, { maxWindow: 100_000 }));
      expect(error.message).toContain('more than the 100000 allowed');
      expect(error.reason).toBe('resources');
    }
  });
});
