import type { ByteStream } from '../stream/byte-stream.ts';

/**
 * A byte stream whose chunks are pushed by one side while the other iterates: no chunk waits in it
 * but the one that is being handed over.
 */
export class ChunkHandoff implements ByteStream {
  /** The chunk that no pull has taken yet. */
  #chunk: Uint8Array | undefined;
  #ended = false;
  #failure: { readonly error: unknown } | undefined;
  /** Called when a chunk, the end or a failure is there. */
  #wakePull: () => void = () => undefined;
  /** Called when the chunk before is used up, or no more is wanted. */
  #wakePush: () => void = () => undefined;

  /**
   * Hands over a chunk.
   *
   * @returns when the other side asks for the next one, or `fail` is called: the chunk is used up then
   */
  push(chunk: Uint8Array): Promise<void> {
    if (this.#failure !== undefined) return Promise.resolve();
    return new Promise((resolve) => {
      this.#chunk = chunk;
      this.#wakePush = resolve;
      this.#wakePull();
    });
  }

  /** Ends the stream after the chunks that were pushed. */
  end(): void {
    this.#ended = true;
    this.#wakePull();
  }

  /** Makes the next pull throw the error, and lets pushes through. Later calls change nothing. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#chunk = undefined;
    this.#wakePull();
    this.#wakePush();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, void> {
    for (;;) {
      while (this.#chunk === undefined && !this.#ended && this.#failure === undefined) {
        await new Promise<void>((resolve) => {
          this.#wakePull = resolve;
        });
      }
      if (this.#failure !== undefined) throw this.#failure.error;
      const chunk = this.#chunk;
      if (chunk === undefined) return;
      this.#chunk = undefined;
      yield chunk;
      this.#wakePush();
    }
  }
}
