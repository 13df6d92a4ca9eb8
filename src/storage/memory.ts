import { concat, streamOf } from '../stream/byte-stream.ts';
import type { ByteStream } from '../stream/byte-stream.ts';
import { orLeaveSource, sourceChunks } from './blob-source.ts';
import { assertKey, assertPrefix, INLINE_BODY_LIMIT, resolveRange, StorageError } from './blob-store.ts';
import type {
  BlobInfo,
  BlobSource,
  BlobStore,
  ListOptions,
  PutOptions,
  PutResult,
  StoredBlob,
  UnsatisfiableRange,
} from './blob-store.ts';

/** What `createMemoryStore` takes; everything has a default. */
export interface MemoryStoreOptions {
  /**
   * Milliseconds since the epoch, for `modifiedAt`.
   *
   * @default Date.now
   */
  readonly now?: () => number;
}

interface StoredBytes {
  readonly bytes: Uint8Array;
  readonly modifiedAt: number;
}

/** Chunks of a streamed body, in bytes: views of the stored array, so only their number costs anything. */
const CHUNK = 64 * 1024;

/**
 * A store in the memory of the process: for tests, and for trying things out. Nothing bounds it. A source of
 * kind `file` is refused, since there is no file system that every runtime has.
 */
export function createMemoryStore(options: MemoryStoreOptions = {}): BlobStore {
  const now = options.now ?? Date.now;
  const objects = new Map<string, StoredBytes>();
  return {
    description: 'memory:',
    async get(key, request): Promise<StoredBlob | UnsatisfiableRange | null> {
      assertKey(key);
      request?.signal?.throwIfAborted();
      const object = objects.get(key);
      if (object === undefined) return null;
      const size = object.bytes.length;
      const range = resolveRange(request?.range, size);
      if (range === null) return { kind: 'unsatisfiable', size };
      const part = object.bytes.subarray(range.start, range.end + 1);
      const body =
        part.length <= INLINE_BODY_LIMIT
          ? ({ kind: 'bytes', bytes: part } as const)
          : ({ kind: 'stream', stream: pieces(part, request?.signal) } as const);
      return { kind: 'found', key, size, modifiedAt: object.modifiedAt, ...range, body };
    },

    async head(key): Promise<BlobInfo | null> {
      assertKey(key);
      const object = objects.get(key);
      return object === undefined ? null : { key, size: object.bytes.length, modifiedAt: object.modifiedAt };
    },

    async put(key, source, request = {}): Promise<PutResult> {
      const bytes = await orLeaveSource(source, async () => {
        assertKey(key);
        return wholeSource(key, source, request);
      });
      request.signal?.throwIfAborted();
      const existing = objects.get(key);
      if (request.ifAbsent === true && existing !== undefined) {
        return { written: false, size: existing.bytes.length };
      }
      objects.set(key, { bytes, modifiedAt: now() });
      return { written: true, size: bytes.length };
    },

    async delete(keys): Promise<void> {
      for (const key of keys) assertKey(key);
      for (const key of keys) objects.delete(key);
    },

    list(prefix, request) {
      assertPrefix(prefix);
      return list(objects, prefix, request);
    },

    async sweep() {
      return { removed: 0, freed: 0 };
    },

    async ping() {},

    async close() {
      objects.clear();
    },
  };
}

async function wholeSource(key: string, source: BlobSource, options: PutOptions): Promise<Uint8Array> {
  options.signal?.throwIfAborted();
  if (source.kind === 'bytes') return source.bytes.slice();
  if (source.kind === 'file') {
    throw new StorageError(`Cannot store ${JSON.stringify(key)}: a store in memory takes no files`);
  }
  const chunks: Uint8Array[] = [];
  for await (const chunk of sourceChunks(key, source, options.signal)) chunks.push(chunk.slice());
  return concat(chunks);
}

async function* pieces(bytes: Uint8Array, signal: AbortSignal | undefined): ByteStream {
  for (let at = 0; at < bytes.length; at += CHUNK) {
    signal?.throwIfAborted();
    yield* streamOf(bytes.subarray(at, at + CHUNK));
  }
}

async function* list(
  objects: ReadonlyMap<string, StoredBytes>,
  prefix: string,
  options: ListOptions = {},
): AsyncGenerator<BlobInfo, void, void> {
  const after = options.after ?? '';
  const keys = [...objects.keys()].filter((key) => key.startsWith(prefix) && key > after);
  // The default order of strings is by code unit.
  for (const key of keys.sort()) {
    const object = objects.get(key);
    if (object !== undefined) yield { key, size: object.bytes.length, modifiedAt: object.modifiedAt };
  }
}
