import { execFileSync } from 'node:child_process';
import { beforeEach, describe, expect, it } from 'vitest';
import { COMPRESSIONS, decompress, DecompressionError } from '../../../src/nar/decompress.ts';
import { createNarDigester, digestNar, type NarDigest, type NarDigester } from '../../../src/nar/digest.ts';
import { createSha256 } from '../../../src/nar/sha256.ts';
import { streamOf } from '../../../src/stream/byte-stream.ts';
import {
  chunked,
  drain,
  dump,
  encode,
  hasTool,
  makeTree,
  narOf,
  noise,
  prose,
  temporaryDirectory,
} from './fixtures.ts';

const installed = hasTool('xz') && hasTool('bzip2');
const formats = COMPRESSIONS.filter((format) => installed || (format !== 'xz' && format !== 'bzip2'));
const nar = narOf({
  entries: [
    ['a', { contents: prose(50_000), executable: true }],
    ['b', { contents: noise(10_000, 2) }],
  ],
});
const limits = { maxOutput: nar.length };

/** Pushes the bytes from one buffer that is written over each time. */
async function pushAll(digester: NarDigester, bytes: Uint8Array, size: number): Promise<NarDigest> {
  const buffer = new Uint8Array(size);
  for (let at = 0; at < bytes.length; at += size) {
    const chunk = bytes.subarray(at, at + size);
    buffer.set(chunk);
    await digester.push(buffer.subarray(0, chunk.length));
    buffer.fill(0xaa);
  }
  return digester.finish();
}

describe('createSha256', () => {
  it('gives the hash as narinfos have it', () => {
    const sha256 = createSha256();
    sha256.update(new TextEncoder().encode('a'));
    sha256.update(new TextEncoder().encode('bc'));
    expect(sha256.digest()).toBe('sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s');
  });
});

describe.each(formats)('the digest of a NAR in %s', (format) => {
  const encoded = encode(nar, format);

  it('is the same pulled and pushed, whatever the chunks are', async () => {
    const expected = await digestNar(streamOf(nar), 'none', limits);
    expect(expected.narSize).toBe(nar.length);
    expect(await digestNar(chunked(encoded, 333), format, limits)).toEqual(expected);
    for (const size of [97, 65_536, encoded.length]) {
      expect(await pushAll(createNarDigester(format, limits), encoded, size)).toEqual(expected);
    }
  });

  it('is refused above the limit, by push or finish and from then on', async () => {
    const small = { maxOutput: nar.length - 1 };
    await expect(digestNar(streamOf(encoded), format, small)).rejects.toThrow(DecompressionError);
    const digester = createNarDigester(format, small);
    await expect(pushAll(digester, encoded, 5000)).rejects.toThrow(
      `the output is larger than ${nar.length - 1} bytes`,
    );
    await expect(digester.push(Uint8Array.of(1))).rejects.toThrow(DecompressionError);
    await expect(digester.finish()).rejects.toThrow(DecompressionError);
  });

  it('is refused when the encoding is cut', async () => {
    if (format === 'none') return;
    await expect(digestNar(streamOf(encoded.subarray(0, -1)), format, limits)).rejects.toThrow('truncated');
    await expect(pushAll(createNarDigester(format, limits), encoded.subarray(0, -1), 5000)).rejects.toThrow(
      'truncated',
    );
    await expect(createNarDigester(format, limits).finish()).rejects.toThrow('truncated');
  });

  it('differs for every changed encoding that is accepted as other bytes', async () => {
    const expected = await digestNar(streamOf(encoded), format, limits);
    const step = Math.ceil(encoded.length / 50);
    for (let at = 0; at < encoded.length; at += step) {
      const wrong = encoded.slice();
      wrong[at] = (wrong[at] ?? 0) ^ 0x10;
      const digest = await digestNar(streamOf(wrong), format, limits).catch((error: unknown) => error);
      if (digest instanceof DecompressionError) continue;
      const same = Buffer.compare(await drain(decompress(streamOf(wrong), format, limits)), nar) === 0;
      if (same) expect(digest).toEqual(expected);
      else expect((digest as NarDigest).narHash).not.toBe(expected.narHash);
    }
  });

  it('can be aborted at any time, which rejects what waits and what follows', async () => {
    const idle = createNarDigester(format, limits);
    idle.abort();
    idle.abort();
    await expect(idle.finish()).rejects.toThrow('the digest was aborted');

    const busy = createNarDigester(format, limits);
    await busy.push(encoded.subarray(0, 5000));
    const waiting = busy.push(encoded.subarray(5000));
    busy.abort();
    await expect(waiting).rejects.toThrow('the digest was aborted');
    await expect(busy.push(Uint8Array.of(1))).rejects.toThrow('the digest was aborted');
    await expect(busy.finish()).rejects.toThrow('the digest was aborted');
  });
});

describe('digestNar', () => {
  it('lets other work run while it hashes one large chunk', async () => {
    let turns = 0;
    let running = true;
    const count = (): void => {
      turns++;
      if (running) setImmediate(count);
    };
    count();
    await digestNar(streamOf(new Uint8Array(40_000_000)), 'none', { maxOutput: 1e9 });
    running = false;
    expect(turns).toBeGreaterThanOrEqual(9);
  });
});

describe('createNarDigester', () => {
  it('does not take a chunk before the one before is used up', async () => {
    const digester = createNarDigester('gzip', { maxOutput: 1e9 });
    const encoded = encode(new Uint8Array(50_000_000), 'gzip');
    let pushed = false;
    const push = digester.push(encoded).then(() => {
      pushed = true;
    });
    await Promise.resolve();
    expect(pushed).toBe(false);
    await push;
    expect(await digester.finish()).toMatchObject({ narSize: 50_000_000 });
  });

  it('leaves no rejection unhandled when it is dropped after an error', async () => {
    const digester = createNarDigester('gzip', limits);
    await expect(digester.push(new TextEncoder().encode('not gzip at all, but long enough'))).rejects.toThrow(
      DecompressionError,
    );
  });
});

describe('the digest of a real tree', () => {
  const isThere = hasTool('nix-hash');
  beforeEach(({ skip }) => {
    skip(!isThere, 'nix-hash cannot be run here');
  });

  it('is the one that nix-hash prints', async () => {
    using directory = temporaryDirectory();
    const root = makeTree(directory.path);
    const hash = execFileSync('nix-hash', ['--type', 'sha256', '--base32', root], {
      encoding: 'utf8',
    }).trim();
    const archive = dump(root);
    expect(await digestNar(streamOf(archive), 'none', { maxOutput: archive.length })).toEqual({
      narHash: `sha256:${hash}`,
      narSize: archive.length,
    });
  });
});
