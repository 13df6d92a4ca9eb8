import type { ByteStream } from '../stream/byte-stream.ts';

/** A file. */
export interface NarFile {
  readonly kind: 'file';
  /** From the root, parts separated by `/`; empty for the root itself. */
  readonly path: string;
  /** Bytes of the contents. */
  readonly size: number;
  readonly executable: boolean;
  /** Where the contents start, in bytes from the start of the archive. */
  readonly narOffset: number;
  /**
   * The contents, from the stream of the archive itself: to be iterated once, before the next event is
   * asked for. What is left of them then is skipped. Leaving them early does not cancel the archive.
   */
  readonly contents: ByteStream;
}

/** A directory. Its entries follow in the order of their names' bytes, then its end. */
export interface NarDirectory {
  readonly kind: 'directory';
  readonly path: string;
}

/** The end of the directory that was begun last. */
export interface NarDirectoryEnd {
  readonly kind: 'directory-end';
  readonly path: string;
}

/** A symbolic link. The target may be any text, also one that leaves the archive. */
export interface NarSymlink {
  readonly kind: 'symlink';
  readonly path: string;
  readonly target: string;
}

/** What a NAR is made of, in its order. */
export type NarEvent = NarFile | NarDirectory | NarDirectoryEnd | NarSymlink;
