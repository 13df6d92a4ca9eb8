import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { createListing, formatListing, ListingTooLargeError } from '../../../src/nar/listing.ts';
import { NarError } from '../../../src/nar/reader.ts';
import { streamOf } from '../../../src/stream/byte-stream.ts';
import { chunked, dump, hasTool, makeTree, narOf, temporaryDirectory, type Tree } from './fixtures.ts';

const empty: Tree = { contents: new Uint8Array(0) };

async function listed(tree: Tree): Promise<string> {
  return formatListing(await createListing(streamOf(narOf(tree))));
}

describe('createListing and formatListing', () => {
  it('print files, symlinks and directories as Nix does', async () => {
    expect(await listed({ contents: new Uint8Array(5), executable: true })).toBe(
      '{"version":1,"root":{"type":"regular","size":5,"executable":true,"narOffset":128}}',
    );
    expect(await listed(empty)).toBe('{"version":1,"root":{"type":"regular","size":0,"narOffset":96}}');
    expect(await listed({ target: 'a"b' })).toBe('{"version":1,"root":{"type":"symlink","target":"a\\"b"}}');
    expect(await listed({ entries: [['d', { entries: [] }]] })).toBe(
      '{"version":1,"root":{"type":"directory","entries":{"d":{"type":"directory","entries":{}}}}}',
    );
  });

  it('keep names that mean something to JavaScript, and their order', async () => {
    const names = ['10', '9', '__proto__', 'constructor', 'toString'];
    const text = await listed({ entries: names.map((name) => [name, empty] as const) });
    expect([...text.matchAll(/"([^"]+)":\{"type":"regular"/g)].map((match) => match[1])).toEqual(names);
  });

  it('stop at the limit of entries and of bytes, and cancel the stream', async () => {
    const nar = narOf({
      entries: Array.from({ length: 100 }, (_, index) => [`f${1000 + index}`, empty] as const),
    });
    await expect(createListing(streamOf(nar), { maxEntries: 101 })).resolves.toBeDefined();
    const stream = chunked(nar, 100);
    await expect(createListing(stream, { maxEntries: 50 })).rejects.toThrow(ListingTooLargeError);
    expect(stream.cancelled).toBe(true);
    await expect(createListing(streamOf(nar), { maxBytes: 1000 })).rejects.toThrow(
      'Cannot list a NAR in less than 1000 bytes',
    );
  });

  it('refuse a malformed archive', async () => {
    await expect(createListing(streamOf(narOf(empty).subarray(0, -8)))).rejects.toThrow(NarError);
  });
});

describe('listings made by Nix', () => {
  const isThere = hasTool('nix');
  beforeEach(({ skip }) => {
    skip(!isThere, 'nix cannot be run here');
  });

  const features = ['--extra-experimental-features', 'nix-command'];

  it('are equal to ours, byte by byte, by `nix nar ls`', async () => {
    using directory = temporaryDirectory();
    const nar = dump(makeTree(directory.path));
    const path = join(directory.path, 'tree.nar');
    writeFileSync(path, nar);
    const output = execFileSync('nix', [...features, 'nar', 'ls', '--json', '-lR', path, '/'], {
      encoding: 'utf8',
    });
    expect(formatListing(await createListing(chunked(nar, 777)))).toBe(
      `{"version":1,"root":${output.trimEnd()}}`,
    );
  });

  it('are equal to ours, byte by byte, in a binary cache', async () => {
    using directory = temporaryDirectory();
    const env = {
      PATH: process.env['PATH'] ?? '',
      HOME: directory.path,
      XDG_CACHE_HOME: join(directory.path, 'home'),
      NIX_REMOTE: `local?root=${join(directory.path, 'store')}`,
      NIX_STATE_DIR: join(directory.path, 'state'),
      NIX_LOG_DIR: join(directory.path, 'log'),
      NIX_CONFIG: 'build-users-group =\nsubstituters =',
    };
    const root = makeTree(directory.path);
    const storePath = execFileSync('nix-store', ['--add', root], { env, encoding: 'utf8' }).trim();
    const cache = join(directory.path, 'cache');
    const destination = `file://${cache}?compression=none&write-nar-listing=1`;
    execFileSync('nix', [...features, 'copy', '--to', destination, storePath], { env, stdio: 'pipe' });
    const name = readdirSync(cache).find((entry) => entry.endsWith('.ls')) ?? '';
    expect(formatListing(await createListing(streamOf(dump(root))))).toBe(
      readFileSync(join(cache, name), 'utf8'),
    );
  });
});
