import type { BlobSource, BlobStore, PutOptions, PutResult } from '../../src/storage/blob-store.ts';
import type { ByteStream } from '../../src/stream/byte-stream.ts';
import { withMethods } from './replaced.ts';

/** What a store saw of a streamed put, chunk by chunk. */
export interface SeenPut {
  readonly key: string;
  /** Bytes taken so far. */
  taken: number;
  /** How its source ended: null while it has not. */
  ended: 'clean' | 'failed' | null;
}

export interface ObservedStore {
  readonly store: BlobStore;
  /** Streamed puts in order. */
  readonly puts: readonly SeenPut[];
}

/**
 * A store as those are that are reached over a network: it says what memory its puts take, and can be slowed or
 * broken while it takes a body.
 *
 * @param onChunk called before each chunk is taken, with the bytes taken so far
 */
export function observedStore(
  store: BlobStore,
  onChunk: (taken: number) => void | Promise<void> = () => undefined,
  putMemory: number = 1024 * 1024,
): ObservedStore {
  const puts: SeenPut[] = [];
  const put = async (key: string, source: BlobSource, options?: PutOptions): Promise<PutResult> => {
    if (source.kind !== 'stream') return await store.put(key, source, options);
    const seen: SeenPut = { key, taken: 0, ended: null };
    puts.push(seen);
    return await store.put(key, { ...source, stream: observed(source.stream, seen, onChunk) }, options);
  };
  return { store: withMethods(store, { put, putMemory }), puts };
}

async function* observed(
  stream: ByteStream,
  seen: SeenPut,
  onChunk: (taken: number) => void | Promise<void>,
): AsyncGenerator<Uint8Array, void, void> {
  try {
    for await (const chunk of stream) {
      await onChunk(seen.taken);
      seen.taken += chunk.length;
      yield chunk;
    }
    seen.ended = 'clean';
  } finally {
    seen.ended ??= 'failed';
  }
}
