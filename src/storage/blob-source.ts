import type { ByteStream } from '../stream/byte-stream.ts';
import { leave } from '../stream/byte-stream.ts';
import { StorageError } from './blob-store.ts';
import type { BlobSource } from './blob-store.ts';

/** A `stream` source of a put. */
export interface StreamSource {
  readonly stream: ByteStream;
  /** Bytes, where the caller knows them. */
  readonly size?: number;
}

/**
 * The chunks of a source, for drivers to write: empty ones are skipped, and the sum is held against `size`.
 * Leaving early or aborting cancels the source; an abort does so also while the source stands still.
 *
 * @throws whatever the source throws; the signal's reason when that is aborted; StorageError if the source is
 *   longer or shorter than its size
 */
export async function* sourceChunks(
  key: string,
  source: StreamSource,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  const iterator = source.stream[Symbol.asyncIterator]();
  const size = source.size;
  let taken = 0;
  let open = true;
  try {
    for (;;) {
      const result = await nextUnlessAborted(iterator, signal);
      if (result.done === true) {
        open = false;
        break;
      }
      const chunk = result.value;
      taken += chunk.length;
      if (size !== undefined && taken > size) throw wrongLength(key, `more than the ${size} bytes`);
      if (chunk.length > 0) yield chunk;
    }
  } finally {
    // Not awaited: a source that stands still would hold the caller as long as it does.
    if (open) void Promise.resolve(iterator.return?.()).catch(() => undefined);
  }
  if (size !== undefined && taken < size) throw wrongLength(key, `${taken} bytes instead of the ${size}`);
}

/**
 * Runs a put. If it fails, a stream source is left, also when it was never asked for a chunk: else what feeds
 * it would wait for ever.
 */
export async function orLeaveSource<Result>(source: BlobSource, put: () => Promise<Result>): Promise<Result> {
  try {
    return await put();
  } catch (error) {
    // Not awaited, for the same reason as above.
    if (source.kind === 'stream') void leave(source.stream).catch(() => undefined);
    throw error;
  }
}

function wrongLength(key: string, found: string): StorageError {
  return new StorageError(
    `Cannot store ${JSON.stringify(key)}: its source gave ${found} that were announced`,
  );
}

async function nextUnlessAborted(
  iterator: AsyncIterator<Uint8Array>,
  signal: AbortSignal | undefined,
): Promise<IteratorResult<Uint8Array>> {
  if (signal === undefined) return iterator.next();
  signal.throwIfAborted();
  // A listener for each chunk, taken off again: racing against one long-lived promise would keep a
  // reaction for every chunk of a long body.
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => {
    aborted.reject(signal.reason);
  };
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([iterator.next(), aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
