import type { ByteStream } from '../stream/byte-stream.ts';
import type { ByteCursor } from './byte-cursor.ts';
import type { NarFile } from './nar-event.ts';

/** A file whose contents the cursor stands in or before. */
export class OpenFile implements NarFile {
  readonly kind = 'file';
  readonly path: string;
  readonly size: number;
  readonly executable: boolean;
  readonly narOffset: number;
  readonly contents: ByteStream;
  readonly #cursor: ByteCursor;
  #left: number;
  #closed = false;

  /** @param cursor at the first byte of the contents */
  constructor(cursor: ByteCursor, path: string, size: number, executable: boolean) {
    this.#cursor = cursor;
    this.#left = size;
    this.path = path;
    this.size = size;
    this.executable = executable;
    this.narOffset = cursor.offset;
    this.contents = this.#read();
  }

  async *#read(): AsyncGenerator<Uint8Array, void, void> {
    for (;;) {
      if (this.#closed) throw new Error(`Cannot read "${this.path}": the archive was read past it`);
      if (this.#left === 0) return;
      yield await this.#take();
    }
  }

  /** Reads what nobody has read, and closes the contents to late readers. */
  async skipRest(): Promise<void> {
    this.#closed = true;
    while (this.#left > 0) {
      const bytes = this.#cursor.tryTake(this.#left);
      if (bytes === undefined) await this.#take();
      else this.#left -= bytes.length;
    }
  }

  async #take(): Promise<Uint8Array> {
    const expected = `${this.#left} more bytes of contents`;
    const bytes = this.#cursor.tryTake(this.#left) ?? (await this.#cursor.take(this.#left, expected));
    this.#left -= bytes.length;
    return bytes;
  }
}
