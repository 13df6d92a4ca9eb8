import type { ByteStream } from '../stream/byte-stream.ts';
import { readNar, type NarEvent } from './reader.ts';

/** A file in a listing. */
export interface ListedFile {
  readonly type: 'regular';
  /** Bytes. */
  readonly size: number;
  readonly executable: boolean;
  /** Where the contents start, in bytes from the start of the NAR. */
  readonly narOffset: number;
}

/** A symbolic link in a listing. */
export interface ListedSymlink {
  readonly type: 'symlink';
  readonly target: string;
}

/** A directory in a listing. */
export interface ListedDirectory {
  readonly type: 'directory';
  /** By name, in the order of the NAR. */
  readonly entries: ReadonlyMap<string, NarListing>;
}

/** What is in a NAR, without the contents: the root and what is below it. */
export type NarListing = ListedFile | ListedSymlink | ListedDirectory;

/** What a listing may cost. */
export interface ListingLimits {
  /**
   * The most files, symlinks and directories.
   * @default 250000
   */
  readonly maxEntries?: number;
  /**
   * The most bytes that the listing may have as text, by a close estimate.
   * @default 33554432 (32 MiB)
   */
  readonly maxBytes?: number;
}

/** Thrown where a NAR has more entries, or longer names, than a listing may have. */
export class ListingTooLargeError extends Error {
  override readonly name = 'ListingTooLargeError';
}

const DEFAULT_MAX_ENTRIES = 250_000;
const DEFAULT_MAX_BYTES = 32 * 1024 * 1024;
/** What an entry takes besides its name and target: its braces, keys and numbers, in bytes. */
const ENTRY_BYTES = 64;

/**
 * The listing of an uncompressed NAR. Consumes the stream and skips the contents of files.
 *
 * @throws NarError if the NAR is malformed, or has a name or target that is not UTF-8: JSON has no way
 *   to write that, nor has Nix
 * @throws ListingTooLargeError as soon as a limit is passed; the stream is cancelled
 */
export async function createListing(stream: ByteStream, limits: ListingLimits = {}): Promise<NarListing> {
  const maxEntries = limits.maxEntries ?? DEFAULT_MAX_ENTRIES;
  const maxBytes = limits.maxBytes ?? DEFAULT_MAX_BYTES;
  const open: Map<string, NarListing>[] = [];
  let root: NarListing | undefined;
  let entries = 0;
  let bytes = 0;
  for await (const event of readNar(stream, { invalidUtf8: 'reject' })) {
    if (event.kind === 'directory-end') {
      open.pop();
      continue;
    }
    const name = event.path.slice(event.path.lastIndexOf('/') + 1);
    const listed = listingOf(event);
    entries++;
    bytes += ENTRY_BYTES + name.length + (listed.type === 'symlink' ? listed.target.length : 0);
    if (entries > maxEntries) {
      throw new ListingTooLargeError(`Cannot list a NAR of more than ${maxEntries} entries`);
    }
    if (bytes > maxBytes) throw new ListingTooLargeError(`Cannot list a NAR in less than ${maxBytes} bytes`);
    const parent = open.at(-1);
    if (parent === undefined) root = listed;
    else parent.set(name, listed);
    if (listed.type === 'directory') open.push(listed.entries);
  }
  if (root === undefined) throw new Error('Cannot list a NAR without a root');
  return root;
}

type Listed =
  ListedFile | ListedSymlink | { readonly type: 'directory'; readonly entries: Map<string, NarListing> };

function listingOf(event: Exclude<NarEvent, { kind: 'directory-end' }>): Listed {
  switch (event.kind) {
    case 'file':
      return {
        type: 'regular',
        size: event.size,
        executable: event.executable,
        narOffset: event.narOffset,
      };
    case 'symlink':
      return { type: 'symlink', target: event.target };
    case 'directory':
      return { type: 'directory', entries: new Map() };
  }
}

/**
 * The listing as the JSON of Nix's `.ls` files, version 1 (`src/libstore/binary-cache-store.cc`), with
 * keys in the order of Nix 2.8 and without a line end.
 */
export function formatListing(listing: NarListing): string {
  const parts: string[] = ['{"version":1,"root":'];
  formatNode(listing, parts);
  parts.push('}');
  return parts.join('');
}

// Written out rather than handed to JSON.stringify: an object would sort the names that are numbers to
// its front, and could not have one called __proto__.
function formatNode(node: NarListing, parts: string[]): void {
  switch (node.type) {
    case 'regular': {
      const executable = node.executable ? '"executable":true,' : '';
      parts.push(`{"type":"regular","size":${node.size},${executable}"narOffset":${node.narOffset}}`);
      return;
    }
    case 'symlink':
      parts.push(`{"type":"symlink","target":${JSON.stringify(node.target)}}`);
      return;
    case 'directory': {
      parts.push('{"type":"directory","entries":{');
      let separator = '';
      for (const [name, entry] of node.entries) {
        parts.push(separator, JSON.stringify(name), ':');
        formatNode(entry, parts);
        separator = ',';
      }
      parts.push('}}');
    }
  }
}
