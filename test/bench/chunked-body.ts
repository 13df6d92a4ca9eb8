/** The state of a body in chunks (RFC 9112 §7.1), which comes in pieces of any size. Trailers are not known. */
export class ChunkedBody {
  /** Of the line of a chunk's size, as far as it has come; null within a chunk. */
  #line: string | null = '';
  #left = 0;
  #isOver = false;

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Takes what came. @returns the bytes of the body in it. @throws Error for what are no chunks */
  take(piece: Uint8Array): readonly Uint8Array[] {
    const bodies: Uint8Array[] = [];
    let at = 0;
    while (at < piece.length && !this.#isOver) {
      if (this.#line === null) {
        const body = piece.subarray(at, at + this.#left);
        if (body.length > 0) bodies.push(body);
        at += body.length;
        this.#left -= body.length;
        if (this.#left === 0) this.#line = '';
      } else {
        this.#line += String.fromCharCode(piece[at] ?? 0);
        at += 1;
        if (this.#line.endsWith('\n')) this.#endLine(this.#line.trim());
      }
    }
    return bodies;
  }

  /** The line before a chunk, or the empty one after it. */
  #endLine(line: string): void {
    this.#line = '';
    if (line === '' && this.#left === 0) return;
    if (line === '' && this.#left === -1) {
      this.#isOver = true;
      return;
    }
    const size = /^[0-9a-f]+$/i.test(line) ? Number.parseInt(line, 16) : Number.NaN;
    if (!Number.isSafeInteger(size))
      throw new Error(`Expected the size of a chunk, not ${JSON.stringify(line)}`);
    // After the last chunk, of no bytes, comes one empty line.
    this.#left = size === 0 ? -1 : size;
    if (size > 0) this.#line = null;
  }
}
