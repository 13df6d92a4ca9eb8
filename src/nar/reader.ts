import type { ByteStream } from '../stream/byte-stream.ts';
import { ByteCursor } from './byte-cursor.ts';
import { NarError } from './nar-error.ts';
import type { NarEvent } from './nar-event.ts';
import { OpenFile } from './open-file.ts';

export { NarError } from './nar-error.ts';
export type { NarEvent } from './nar-event.ts';

/** How strictly to read. */
export interface ReadNarOptions {
  /**
   * The most directories inside one another.
   * @default 1024
   */
  readonly maxDepth?: number;
  /**
   * What becomes of names and targets that are not UTF-8, which archives may have: U+FFFD in place of
   * each wrong byte, or a NarError.
   * @default 'replace'
   */
  readonly invalidUtf8?: 'replace' | 'reject';
}

const DEFAULT_MAX_DEPTH = 1024;
/** Bytes of a tag that is read only to be named in an error. */
const MAX_TAG = 64;
/** NAME_MAX and PATH_MAX of Linux, without the zero: nothing longer can be unpacked. */
const MAX_NAME = 255;
const MAX_TARGET = 4095;

const MAGIC = 'nix-archive-1';

/**
 * Reads a NAR, piece by piece as it is asked for (the manual's "Nix Archive (NAR) format"; like Nix
 * since 2.24, only the one form that `nix-store --dump` writes is accepted). The stream is consumed;
 * leaving the loop early cancels it.
 *
 * @throws NarError while iterating, at the first byte that is not as it must be: a wrong or overlong tag,
 *   padding that is not zero, names that are out of order, double, empty, `.`, `..`, longer than 255
 *   bytes or contain a slash or a zero, nesting above the limit, the end of the input before that of
 *   the archive, or anything after it. Events before it have been given out by then.
 */
export async function* readNar(
  stream: ByteStream,
  options: ReadNarOptions = {},
): AsyncGenerator<NarEvent, void, void> {
  const reader = new NarReader(new ByteCursor(stream), options);
  try {
    yield* reader.events();
  } finally {
    await reader.cursor.close();
  }
}

/** A directory whose end is not reached. */
interface OpenDirectory {
  readonly path: string;
  /** The name of its latest entry. */
  last: Uint8Array;
}

class NarReader {
  readonly cursor: ByteCursor;
  readonly #maxDepth: number;
  readonly #decoder: InstanceType<typeof TextDecoder>;
  readonly #open: OpenDirectory[] = [];

  constructor(cursor: ByteCursor, options: ReadNarOptions) {
    this.cursor = cursor;
    this.#maxDepth = options.maxDepth ?? DEFAULT_MAX_DEPTH;
    this.#decoder = new TextDecoder('utf-8', { fatal: options.invalidUtf8 === 'reject', ignoreBOM: true });
  }

  async *events(): AsyncGenerator<NarEvent, void, void> {
    await this.#expect(MAGIC);
    for (let path: string | undefined = ''; path !== undefined;) {
      const event = await this.#readNode(path);
      yield event;
      if (event.kind === 'file') await this.#endFile(event);
      if (event.kind !== 'directory') await this.#endNode();
      path = await this.#nextEntry();
      while (path === undefined && this.#open.length > 0) {
        const directory = this.#open.pop();
        if (directory === undefined) break;
        yield { kind: 'directory-end', path: directory.path };
        if (this.#open.length > 0) await this.#expect(')');
        path = await this.#nextEntry();
      }
    }
    await this.cursor.end();
  }

  /** Reads a node up to its contents or entries. */
  async #readNode(path: string): Promise<NarEvent> {
    await this.#expect('(');
    await this.#expect('type');
    const at = this.cursor.offset;
    const type = await this.#tag('"regular", "symlink" or "directory"');
    if (type === 'regular') return this.#readFile(path);
    if (type === 'symlink') {
      await this.#expect('target');
      const start = this.cursor.offset;
      const target = await this.#string(MAX_TARGET, `a target of 1 to ${MAX_TARGET} bytes`);
      if (target.length === 0 || target.includes(0)) {
        throw new NarError(start, 'expected a target that is not empty and has no zero bytes');
      }
      return { kind: 'symlink', path, target: this.#text(target, start) };
    }
    if (type !== 'directory') throw unexpected(at, '"regular", "symlink" or "directory"', type);
    if (this.#open.length >= this.#maxDepth) {
      throw new NarError(at, `expected no more than ${this.#maxDepth} directories inside one another`);
    }
    this.#open.push({ path, last: new Uint8Array(0) });
    return { kind: 'directory', path };
  }

  async #readFile(path: string): Promise<OpenFile> {
    let at = this.cursor.offset;
    let tag = await this.#tag('"executable" or "contents"');
    const executable = tag === 'executable';
    if (executable) {
      await this.#expect('');
      at = this.cursor.offset;
      tag = await this.#tag('"contents"');
    }
    if (tag !== 'contents')
      throw unexpected(at, executable ? '"contents"' : '"executable" or "contents"', tag);
    const expected = 'contents of less than 2^53 bytes';
    const size =
      this.cursor.tryLength(Number.MAX_SAFE_INTEGER, expected) ??
      (await this.cursor.length(Number.MAX_SAFE_INTEGER, expected));
    return new OpenFile(this.cursor, path, size, executable);
  }

  async #endFile(event: NarEvent): Promise<void> {
    if (!(event instanceof OpenFile)) return;
    await event.skipRest();
    await this.cursor.padding(event.size);
  }

  /** Reads the end of a file or symlink, and of the entry that it is in. */
  async #endNode(): Promise<void> {
    await this.#expect(')');
    if (this.#open.length > 0) await this.#expect(')');
  }

  /** The path of the next entry of the innermost directory; undefined at its end, which is read. */
  async #nextEntry(): Promise<string | undefined> {
    const directory = this.#open.at(-1);
    if (directory === undefined) return undefined;
    const at = this.cursor.offset;
    const tag = await this.#tag('"entry" or ")"');
    if (tag === ')') return undefined;
    if (tag !== 'entry') throw unexpected(at, '"entry" or ")"', tag);
    await this.#expect('(');
    await this.#expect('name');
    const start = this.cursor.offset;
    const name = await this.#string(MAX_NAME, `a name of 1 to ${MAX_NAME} bytes`);
    checkName(name, directory.last, start);
    directory.last = name.slice();
    const text = this.#text(name, start);
    await this.#expect('node');
    return directory.path === '' ? text : `${directory.path}/${text}`;
  }

  async #expect(tag: string): Promise<void> {
    const at = this.cursor.offset;
    const expected = `"${tag}"`;
    const found = await this.#tag(expected);
    if (found !== tag) throw unexpected(at, expected, found);
  }

  async #tag(expected: string): Promise<string> {
    return latin1(this.cursor.tryString(MAX_TAG, expected) ?? (await this.cursor.string(MAX_TAG, expected)));
  }

  async #string(limit: number, expected: string): Promise<Uint8Array> {
    return this.cursor.tryString(limit, expected) ?? (await this.cursor.string(limit, expected));
  }

  #text(bytes: Uint8Array, offset: number): string {
    try {
      return this.#decoder.decode(bytes);
    } catch {
      throw new NarError(offset, 'expected text in UTF-8');
    }
  }
}

function checkName(name: Uint8Array, last: Uint8Array, offset: number): void {
  const text = latin1(name);
  if (text === '' || text === '.' || text === '..' || text.includes('/') || text.includes('\0')) {
    throw new NarError(offset, `expected a name of one part, found ${JSON.stringify(text)}`);
  }
  const order = compareBytes(last, name);
  if (order === 0) throw new NarError(offset, `the name ${JSON.stringify(text)} is there twice`);
  if (order > 0) {
    throw new NarError(offset, `expected names in order, found ${JSON.stringify(text)} after a greater one`);
  }
}

function compareBytes(left: Uint8Array, right: Uint8Array): number {
  const length = Math.min(left.length, right.length);
  for (let at = 0; at < length; at++) {
    const difference = (left[at] ?? 0) - (right[at] ?? 0);
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}

/** One character a byte: exact for tags, and readable in errors. */
function latin1(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

function unexpected(offset: number, expected: string, found: string): NarError {
  return new NarError(offset, `expected ${expected}, found ${JSON.stringify(found)}`);
}
