import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { NarError, readNar, type NarEvent, type ReadNarOptions } from '../../../src/nar/reader.ts';
import { streamOf, type ByteStream } from '../../../src/stream/byte-stream.ts';
import {
  chunked,
  drain,
  dump,
  hasTool,
  inChunks,
  makeTree,
  narNode,
  narOf,
  narString,
  narStrings,
  temporaryDirectory,
  type Tree,
} from './fixtures.ts';

/** Every path below the directory, relative to it; symlinks are not followed. */
function pathsBelow(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    if (!entry.isDirectory()) return [entry.name];
    return [entry.name, ...pathsBelow(join(directory, entry.name)).map((path) => join(entry.name, path))];
  });
}

/** An event without its stream, with the contents in its place. */
type Read = Omit<NarEvent, 'contents'> & { readonly contents?: string };

async function readAll(stream: ByteStream, options?: ReadNarOptions): Promise<Read[]> {
  const events: Read[] = [];
  for await (const event of readNar(stream, options)) {
    if (event.kind !== 'file') {
      events.push({ ...event });
      continue;
    }
    const { kind, path, size, executable, narOffset } = event;
    const contents = Buffer.from(await drain(event.contents)).toString('base64');
    events.push({ kind, path, size, executable, narOffset, contents } as Read);
  }
  return events;
}

async function errorOf(nar: Uint8Array, options?: ReadNarOptions): Promise<NarError> {
  const error: unknown = await readAll(streamOf(nar), options).then(
    () => new Error('The archive was accepted'),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof NarError)) throw error;
  return error;
}

const file = (contents: string): Tree => ({ contents: new TextEncoder().encode(contents) });

const SMALL: Tree = {
  entries: [
    ['bin', { entries: [['run', { contents: Uint8Array.of(1, 2, 3), executable: true }]] }],
    ['empty', file('')],
    ['link', { target: '../x' }],
    ['text', file('12345678')],
    ['z', { entries: [] }],
  ],
};

describe('readNar', () => {
  it('gives the pieces in the order of the archive', async () => {
    const events = await readAll(streamOf(narOf(SMALL)));
    expect(events.map((event) => `${event.kind} ${event.path}`)).toEqual([
      'directory ',
      'directory bin',
      'file bin/run',
      'directory-end bin',
      'file empty',
      'symlink link',
      'file text',
      'directory z',
      'directory-end z',
      'directory-end ',
    ]);
    expect(events[2]).toMatchObject({ size: 3, executable: true, contents: 'AQID' });
    expect(events[4]).toMatchObject({ size: 0, executable: false, contents: '' });
    expect(events[5]).toMatchObject({ target: '../x' });
  });

  it('tells where the contents of a file start', async () => {
    const nar = narOf(SMALL);
    for await (const event of readNar(streamOf(nar))) {
      if (event.kind !== 'file') continue;
      const found = nar.subarray(event.narOffset, event.narOffset + event.size);
      expect(await drain(event.contents)).toEqual(new Uint8Array(found));
    }
  });

  it('reads archives whose root is a file or a symlink', async () => {
    expect(await readAll(streamOf(narOf(file('x'))))).toMatchObject([
      { kind: 'file', path: '', contents: 'eA==' },
    ]);
    expect(await readAll(streamOf(narOf({ target: 'x' })))).toEqual([
      { kind: 'symlink', path: '', target: 'x' },
    ]);
  });

  it('skips contents that are not read, or not to their end', async () => {
    const nar = narOf({
      entries: [
        ['a', file('x'.repeat(1000))],
        ['b', file('y'.repeat(1000))],
        ['c', file('')],
      ],
    });
    const seen: string[] = [];
    for await (const event of readNar(chunked(nar, 100))) {
      seen.push(event.path);
      if (event.path !== 'a' || event.kind !== 'file') continue;
      for await (const chunk of event.contents) {
        expect(chunk.length).toBeGreaterThan(0);
        break;
      }
    }
    expect(seen).toEqual(['', 'a', 'b', 'c', '']);
  });

  it('refuses contents that are asked for once the archive was read past them', async () => {
    const files: ByteStream[] = [];
    for await (const event of readNar(streamOf(narOf(SMALL))))
      if (event.kind === 'file') files.push(event.contents);
    await expect(drain(files[0] ?? streamOf())).rejects.toThrow(
      'Cannot read "bin/run": the archive was read past it',
    );
  });

  it('pulls input only as it is asked for, and cancels it when it is left', async () => {
    const stream = chunked(narOf({ contents: new Uint8Array(1_000_000) }), 1000);
    const reader = readNar(stream);
    expect(stream.pulls).toBe(0);
    for await (const event of reader) {
      expect(stream.pulls).toBe(1);
      if (event.kind !== 'file') continue;
      for await (const chunk of event.contents) {
        expect(chunk.length).toBeLessThanOrEqual(1000);
        if (stream.pulls === 5) break;
      }
      break;
    }
    expect(stream).toMatchObject({ pulls: 5, cancelled: true });
  });

  it('throws an error of its input as it is', async () => {
    const failure = new Error('The connection broke');
    async function* broken(): AsyncGenerator<Uint8Array, void, void> {
      yield narOf(SMALL).subarray(0, 100);
      throw failure;
    }
    await expect(readAll(broken())).rejects.toBe(failure);
  });

  it('reads the same whatever the chunks are', async () => {
    const nar = narOf(SMALL);
    const whole = await readAll(streamOf(nar));
    expect(await readAll(chunked(nar, 1))).toEqual(whole);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 20 }),
        async (sizes) => {
          expect(await readAll(inChunks(nar, (index) => sizes[index % sizes.length] ?? 1))).toEqual(whole);
        },
      ),
      { numRuns: 50 },
    );
  });

  it('reads back every tree that is written', async () => {
    await fc.assert(
      fc.asyncProperty(trees, async (tree) => {
        const expected = eventsOf(tree, '');
        const events = await readAll(chunked(narOf(tree), 37));
        for (const event of events) delete (event as { narOffset?: number }).narOffset;
        expect(events).toEqual(expected);
      }),
      { numRuns: 100 },
    );
  });
});

const names = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 12 })
  .filter((name) => !/[/\0]/.test(name) && name !== '.' && name !== '..' && name.isWellFormed());

const { tree: trees } = fc.letrec<{ tree: Tree; node: Tree }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 4 },
    fc.record({ contents: fc.uint8Array({ maxLength: 40 }), executable: fc.boolean() }),
    fc.record({ target: names }),
    tie('node'),
  ),
  node: fc
    .uniqueArray(fc.tuple(names, tie('tree')), { selector: ([name]) => name, maxLength: 5 })
    .map((entries) => ({
      entries: entries.toSorted(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b))),
    })),
}));

function eventsOf(tree: Tree, path: string): object[] {
  if ('target' in tree) return [{ kind: 'symlink', path, target: tree.target }];
  if ('contents' in tree) {
    const contents = Buffer.from(tree.contents).toString('base64');
    return [{ kind: 'file', path, size: tree.contents.length, executable: tree.executable, contents }];
  }
  const below = tree.entries.flatMap(([name, entry]) =>
    eventsOf(entry, path === '' ? name : `${path}/${name}`),
  );
  return [{ kind: 'directory', path }, ...below, { kind: 'directory-end', path }];
}

describe('readNar on malformed archives', () => {
  const inRoot = (...tokens: (string | Uint8Array)[]): Uint8Array =>
    narStrings('nix-archive-1', '(', 'type', 'directory', ...tokens);
  const entry = (
    name: string | Uint8Array,
    node: (string | Uint8Array)[] = narNode(file('')),
  ): (string | Uint8Array)[] => ['entry', '(', 'name', name, 'node', ...node, ')'];

  const cases: readonly (readonly [string, Uint8Array, number, string])[] = [
    ['no magic', narStrings('nix-archive-2', '('), 0, 'expected "nix-archive-1", found "nix-archive-2"'],
    ['a file of another kind', new TextEncoder().encode('<!DOCTYPE html><html>'), 0, 'found a string of'],
    ['no node', narStrings('nix-archive-1', ')'), 24, 'expected "(", found ")"'],
    [
      'an unknown type',
      narStrings('nix-archive-1', '(', 'type', 'fifo'),
      56,
      'expected "regular", "symlink" or "directory", found "fifo"',
    ],
    [
      'an unknown tag in a file',
      narStrings('nix-archive-1', '(', 'type', 'regular', 'mode'),
      72,
      'expected "executable" or "contents", found "mode"',
    ],
    [
      'an executable tag with a value',
      narStrings('nix-archive-1', '(', 'type', 'regular', 'executable', 'x'),
      96,
      'expected "", found "x"',
    ],
    [
      'a double executable tag',
      narStrings('nix-archive-1', '(', 'type', 'regular', 'executable', '', 'executable'),
      104,
      'expected "contents"',
    ],
    ['a file without contents', narStrings('nix-archive-1', '(', 'type', 'regular', ')'), 72, 'found ")"'],
    [
      'double contents',
      narStrings('nix-archive-1', '(', 'type', 'regular', 'contents', '', 'contents', ''),
      96,
      'expected ")", found "contents"',
    ],
    ['an empty target', narOf({ target: '' }), 88, 'expected a target that is not empty'],
    ['a target with a zero', narOf({ target: 'a\0b' }), 88, 'has no zero bytes'],
    ['a target that is too long', narOf({ target: 'x'.repeat(4096) }), 88, 'found a string of 4096 bytes'],
    ['an unknown tag in a directory', inRoot('link'), 80, 'expected "entry" or ")", found "link"'],
    [
      'names out of order',
      inRoot(...entry('b'), ...entry('a')),
      312,
      'expected names in order, found "a" after a greater one',
    ],
    ['a double name', inRoot(...entry('a'), ...entry('a')), 312, 'the name "a" is there twice'],
    ['an empty name', inRoot(...entry('')), 128, 'expected a name of one part, found ""'],
    ['the name .', inRoot(...entry('.')), 128, 'found "."'],
    ['the name ..', inRoot(...entry('..')), 128, 'found ".."'],
    ['a name with a slash', inRoot(...entry('a/b')), 128, 'found "a/b"'],
    ['a name with a zero', inRoot(...entry('a\0')), 128, 'found "a\\u0000"'],
    ['a name that is too long', inRoot(...entry('x'.repeat(256))), 128, 'found a string of 256 bytes'],
    [
      'an entry that is not closed',
      inRoot(...entry('a').slice(0, -1), 'entry'),
      248,
      'expected ")", found "entry"',
    ],
    ['an overlong tag', narStrings('nix-archive-1', 'x'.repeat(65)), 24, 'found a string of 65 bytes'],
    [
      'bytes after the end',
      narStrings('nix-archive-1', ...narNode(file('')), ''),
      112,
      'expected the end of the archive',
    ],
  ];
  it.each(cases)('refuses %s', async (_, nar, offset, message) => {
    const error = await errorOf(nar);
    expect(error.message).toContain(message);
    expect(error.message).toContain(`Cannot parse NAR at byte ${offset}: `);
    expect(error.offset).toBe(offset);
  });

  it('refuses padding that is not zero, after tags and after contents', async () => {
    const nar = narOf(file('abc'));
    const tag = nar.slice();
    tag[22] = 1;
    expect((await errorOf(tag)).message).toBe(
      'Cannot parse NAR at byte 22: expected a zero as padding, found 1',
    );
    const contents = nar.slice();
    contents[96 + 7] = 9;
    expect((await errorOf(contents)).message).toBe(
      'Cannot parse NAR at byte 103: expected a zero as padding, found 9',
    );
  });

  it('refuses sizes that no number holds', async () => {
    const nar = narOf(file('abc'));
    for (const size of [2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]) {
      const wrong = nar.slice();
      new DataView(wrong.buffer).setBigUint64(88, size, true);
      const error = await errorOf(wrong);
      expect(error.offset).toBe(88);
      expect(error.message).toContain('expected contents of less than 2^53 bytes');
    }
  });

  it('refuses nesting above the limit', async () => {
    let tree: Tree = { entries: [] };
    for (let depth = 1; depth < 20; depth++) tree = { entries: [['d', tree]] };
    expect(await readAll(streamOf(narOf(tree)), { maxDepth: 20 })).toHaveLength(40);
    expect((await errorOf(narOf(tree), { maxDepth: 19 })).message).toContain('no more than 19 directories');
  });

  it('shows names that are not UTF-8 with a stand-in, or refuses them where asked to', async () => {
    const nar = inRoot(...entry(Uint8Array.of(0x61, 0xff)), ')');
    expect((await readAll(streamOf(nar)))[1]).toMatchObject({ path: 'a\ufffd' });
    expect((await errorOf(nar, { invalidUtf8: 'reject' })).message).toBe(
      'Cannot parse NAR at byte 128: expected text in UTF-8',
    );
  });

  it('refuses an archive that is cut anywhere', async () => {
    const nar = narOf(SMALL);
    for (let length = 0; length < nar.length; length++) {
      const error = await errorOf(nar.subarray(0, length));
      expect(error.message).toContain('found the end of the input');
      expect(error.offset).toBe(length);
    }
  });

  it('never reads a changed archive as the same tree', async () => {
    const nar = narOf(SMALL);
    const original = JSON.stringify(await readAll(streamOf(nar)));
    let refused = 0;
    for (let bit = 0; bit < nar.length * 8; bit++) {
      const wrong = nar.slice();
      wrong[bit >> 3] = (wrong[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const read = await readAll(streamOf(wrong)).catch((error: unknown) => error);
      if (read instanceof NarError) refused++;
      else expect(JSON.stringify(read)).not.toBe(original);
    }
    expect(refused).toBeGreaterThan(nar.length * 7);
  });

  it('does not wait for a string longer than its limit', async () => {
    const stream = chunked(
      new Uint8Array(Buffer.concat([narString('nix-archive-1'), Buffer.alloc(8, 0x7f), Buffer.alloc(1e6)])),
      100,
    );
    await expect(readAll(stream)).rejects.toThrow('expected "(", found a string of');
    expect(stream).toMatchObject({ pulls: 1, cancelled: true });
  });
});

describe('readNar on the archives of nix-store --dump', () => {
  const isThere = hasTool('nix-store');
  beforeEach(({ skip }) => {
    skip(!isThere, 'nix-store cannot be run here');
  });

  it('reads the tree that is on disk', async () => {
    using directory = temporaryDirectory();
    const root = makeTree(directory.path);
    const events = await readAll(chunked(dump(root), 1000));
    expect(
      events
        .filter((event) => event.kind !== 'directory-end')
        .map((event) => event.path)
        .toSorted(),
    ).toEqual(['', ...pathsBelow(root)].toSorted());
    for (const event of events) {
      const path = join(root, event.path);
      const stat = lstatSync(path);
      if (event.kind === 'symlink') expect(event).toMatchObject({ target: readlinkSync(path) });
      else if (event.kind === 'file') {
        expect(event).toMatchObject({
          size: stat.size,
          executable: (stat.mode & 0o100) !== 0,
          contents: readFileSync(path, 'base64'),
        });
      } else expect(stat.isDirectory()).toBe(true);
    }
  });
});
