import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { brotliCompressSync, constants, gzipSync, zstdCompressSync } from 'node:zlib';
import type { Compression } from '../../../src/nar/decompress.ts';
import type { ByteStream } from '../../../src/stream/byte-stream.ts';

/**
 * Whether the tool is installed. Without it the tests that need it are skipped, which the console
 * says; where CI is 'true', that is an error instead.
 */
export function hasTool(name: string): boolean {
  if (navigator.userAgent === 'Cloudflare-Workers') {
    console.warn(`Skipped: "${name}" cannot be run inside workerd`);
    return false;
  }
  if (spawnSync(name, ['--version']).error === undefined) return true;
  if (process.env['CI'] === 'true') throw new Error(`Cannot test: "${name}" is not installed`);
  console.warn(`Skipped: "${name}" is not installed`);
  return false;
}

/** A temporary directory, removed when it goes out of scope. */
export function temporaryDirectory(): { readonly path: string; [Symbol.dispose](): void } {
  const path = mkdtempSync(join(tmpdir(), 'snowcap-nar-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** Pseudo-random bytes (xorshift), the same ones for the same seed. */
export function noise(size: number, seed: number): Uint8Array {
  let state = seed | 1;
  return Uint8Array.from({ length: size }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state & 255;
  });
}

/** Bytes that compress by about half. */
export function prose(size: number, seed = 1): Uint8Array {
  return noise(size, seed).map((byte) => 97 + (byte & 15));
}

/** Makes a tree with everything that a NAR can hold, and returns its path. */
export function makeTree(parent: string): string {
  const root = join(parent, 'tree');
  mkdirSync(join(root, 'bin'), { recursive: true });
  mkdirSync(join(root, 'deep/a/b/c/d/e/f'), { recursive: true });
  mkdirSync(join(root, 'empty-directory'));
  mkdirSync(join(root, 'sizes'));
  mkdirSync(join(root, 'ünï·çødé'));
  writeFileSync(join(root, 'bin/tool'), '#!/bin/sh\necho hello\n');
  chmodSync(join(root, 'bin/tool'), 0o755);
  writeFileSync(join(root, 'bin/empty-tool'), '');
  chmodSync(join(root, 'bin/empty-tool'), 0o755);
  for (const size of [0, 1, 7, 8, 9, 15, 16, 17, 4095, 4096, 4097, 70_001]) {
    writeFileSync(join(root, `sizes/${size}`), noise(size, size + 1));
  }
  writeFileSync(join(root, 'deep/a/b/c/d/e/f/leaf'), 'leaf');
  writeFileSync(join(root, 'ünï·çødé/日本語'), 'text');
  writeFileSync(join(root, 'ünï·çødé/😀'), 'text');
  for (const name of ['10', '9', '__proto__', 'constructor', 'new\nline', 'quote"\\', ' ', 'n'.repeat(255)]) {
    writeFileSync(join(root, name), name);
  }
  symlinkSync('../outside/of/the/tree', join(root, 'link-out'));
  symlinkSync('/nix/store/none', join(root, 'link-absolute'));
  symlinkSync('odd "target"\n\\ ü', join(root, 'link-odd'));
  symlinkSync('bin', join(root, 'link-directory'));
  symlinkSync('t'.repeat(4095), join(root, 'link-long'));
  return root;
}

/** The NAR of a path, as Nix writes it. */
export function dump(path: string): Uint8Array {
  return new Uint8Array(execFileSync('nix-store', ['--dump', path], { maxBuffer: 2 ** 30 }));
}

/** The bytes as the format's own tool encodes them. */
export function encode(
  bytes: Uint8Array,
  compression: Compression,
  options: readonly string[] = [],
): Uint8Array {
  switch (compression) {
    case 'none':
      return bytes;
    case 'xz':
    case 'bzip2':
      return new Uint8Array(
        execFileSync(compression, ['-c', ...options], { input: bytes, maxBuffer: 2 ** 30 }),
      );
    case 'gzip':
      return new Uint8Array(gzipSync(bytes));
    case 'br':
      return new Uint8Array(brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 5 } }));
    case 'zstd':
      return new Uint8Array(zstdCompressSync(bytes, { params: { [constants.ZSTD_c_checksumFlag]: 1 } }));
  }
}

/** A stream that counts what is asked of it. */
export interface WatchedStream extends ByteStream {
  pulls: number;
  /** Whether it was left before its end. */
  cancelled: boolean;
}

/** The bytes in chunks of one size. */
export function chunked(bytes: Uint8Array, size: number): WatchedStream {
  return inChunks(bytes, () => size);
}

/** The bytes in chunks of the sizes given, over and over. */
export function inChunks(bytes: Uint8Array, nextSize: (index: number) => number): WatchedStream {
  const watched = {
    pulls: 0,
    cancelled: false,
    async *[Symbol.asyncIterator]() {
      let ended = false;
      try {
        for (let at = 0; at < bytes.length;) {
          const chunk = bytes.slice(at, at + nextSize(watched.pulls));
          watched.pulls++;
          at += chunk.length;
          yield chunk;
          // Whoever asks for the next chunk has no more use for this one.
          chunk.fill(0xaa);
        }
        ended = true;
      } finally {
        if (!ended) watched.cancelled = true;
      }
    },
  };
  return watched;
}

/** Everything that the stream gives, copied chunk by chunk. */
export async function drain(stream: ByteStream): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk.slice());
  return new Uint8Array(Buffer.concat(chunks));
}

const text = new TextEncoder();

/** A string as NARs have them. */
export function narString(value: string | Uint8Array): Uint8Array {
  const bytes = typeof value === 'string' ? text.encode(value) : value;
  const whole = new Uint8Array(8 + Math.ceil(bytes.length / 8) * 8);
  new DataView(whole.buffer).setBigUint64(0, BigInt(bytes.length), true);
  whole.set(bytes, 8);
  return whole;
}

/** Strings in a row. */
export function narStrings(...values: readonly (string | Uint8Array)[]): Uint8Array {
  return new Uint8Array(Buffer.concat(values.map(narString)));
}

/** A tree to build a NAR of. Entries are written in the order given. */
export type Tree =
  | { readonly contents: Uint8Array; readonly executable?: boolean }
  | { readonly target: string }
  | { readonly entries: readonly (readonly [string, Tree])[] };

/** The tokens of a node, from its `(` to its `)`. */
export function narNode(tree: Tree): (string | Uint8Array)[] {
  if ('target' in tree) return ['(', 'type', 'symlink', 'target', tree.target, ')'];
  if ('contents' in tree) {
    const executable = tree.executable === true ? ['executable', ''] : [];
    return ['(', 'type', 'regular', ...executable, 'contents', tree.contents, ')'];
  }
  const entries = tree.entries.flatMap(([name, entry]) => {
    return ['entry', '(', 'name', name, 'node', ...narNode(entry), ')'];
  });
  return ['(', 'type', 'directory', ...entries, ')'];
}

/** The NAR of a tree, however wrong the tree is. */
export function narOf(tree: Tree): Uint8Array {
  return narStrings('nix-archive-1', ...narNode(tree));
}
