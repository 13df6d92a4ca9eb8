import { leave } from '../stream/byte-stream.ts';
import { sourceChunks } from './blob-source.ts';
import type { StreamSource } from './blob-source.ts';
import { StorageError } from './blob-store.ts';
import type { PutOptions, PutResult } from './blob-store.ts';
import { failed, persistently } from './r2-binding.ts';
import type {
  R2HttpMetadataLike,
  R2MultipartUploadLike,
  R2ObjectLike,
  R2UploadedPartLike,
} from './r2-binding.ts';
import { headObject } from './r2-read.ts';
import type { R2Place } from './r2-read.ts';

/** What is used of the global of Workers: a stream whose length R2 may rely on. No library declares it for all. */
declare const FixedLengthStream: new (length: number) => {
  readonly readable: ReadableStream;
  readonly writable: WritableStream<Uint8Array>;
};

/** R2's limits: https://developers.cloudflare.com/r2/platform/limits/ */
const MOST_PARTS = 10_000;

/** Stores bytes by one conditional put. @throws StorageError */
export async function putBytes(place: R2Place, bytes: Uint8Array, options: PutOptions): Promise<PutResult> {
  const stored = await persistently('store', place.key, place.sleep, () =>
    place.bucket.put(place.fullKey, bytes, putOptions(options)),
  );
  return stored === null ? whatIsThere(place) : { written: true, size: bytes.length };
}

/**
 * Stores a stream: by one put if it fits into one part, else by a multipart upload of parts of one size, which R2
 * requires, one after the other. With the size known each part goes out as it comes in; a part of unknown length
 * is kept until it is full, because R2 takes no body without a length.
 *
 * Where anything fails, the upload is aborted: nothing is left that would have to be paid for.
 *
 * A multipart upload has no condition. With `ifAbsent` the object is looked for before the first and before
 * the last step; of writers that pass both looks at once the later one replaces the earlier. That is enough:
 * bodies this large are NARs, every writer of one key has verified the same hash, and a narinfo is
 * always small enough for the one put.
 *
 * @throws StorageError; whatever the source throws
 */
export async function putStream(
  place: R2Place,
  source: StreamSource,
  partSize: number,
  options: PutOptions,
): Promise<PutResult> {
  const pieces = new Pieces(sourceChunks(place.key, source, options.signal));
  try {
    const { size } = source;
    if (size !== undefined && size <= partSize) return await putWhole(place, pieces, size, options);
    if (size !== undefined) {
      return await putParts(place, pieces, sizedParts(pieces, size, partSize), options);
    }
    const first = await pieces.take(partSize);
    if (first.size < partSize) return await putWhole(place, new Pieces(first.chunks), first.size, options);
    return await putParts(place, pieces, filledParts(pieces, first, partSize), options);
  } finally {
    pieces.leave();
    // Also where it was never begun, which the line above does not reach.
    void leave(source.stream).catch(() => undefined);
  }
}

/** A part of a body: its length and its chunks, which are read once. */
interface Part {
  readonly size: number;
  readonly chunks: AsyncGenerator<Uint8Array, void, void>;
}

async function putWhole(
  place: R2Place,
  pieces: Pieces,
  size: number,
  options: PutOptions,
): Promise<PutResult> {
  // The put is over for R2 with its last byte, but an error of the source may come after it.
  const chunks = heldBack(pieces.rest());
  const stored = await send(place, { size, chunks }, (body) =>
    place.bucket.put(place.fullKey, body, putOptions(options)),
  );
  return stored === null ? whatIsThere(place) : { written: true, size };
}

async function putParts(
  place: R2Place,
  pieces: Pieces,
  parts: AsyncIterable<Part>,
  options: PutOptions,
): Promise<PutResult> {
  const { bucket, key, fullKey, sleep } = place;
  const existing = options.ifAbsent === true ? await headObject(place) : null;
  if (existing !== null) return { written: false, size: existing.size };
  const upload = await persistently('store', key, sleep, () =>
    bucket.createMultipartUpload(fullKey, metadataOf(options)),
  );
  try {
    const uploaded: R2UploadedPartLike[] = [];
    let size = 0;
    for await (const part of parts) {
      if (uploaded.length === MOST_PARTS) {
        throw new StorageError(`Cannot store ${JSON.stringify(key)}: it has more than ${MOST_PARTS} parts`);
      }
      uploaded.push(await send(place, part, (body) => upload.uploadPart(uploaded.length + 1, body)));
      size += part.size;
    }
    // The source says only at its end whether it was whole.
    await pieces.expectEnd();
    const meanwhile = options.ifAbsent === true ? await headObject(place) : null;
    if (meanwhile !== null) {
      await abort(upload);
      return { written: false, size: meanwhile.size };
    }
    await complete(place, upload, uploaded);
    return { written: true, size };
  } catch (error) {
    await abort(upload);
    throw error;
  }
}

async function complete(
  { key, sleep }: R2Place,
  upload: R2MultipartUploadLike,
  parts: R2UploadedPartLike[],
): Promise<R2ObjectLike> {
  return persistently('store', key, sleep, () => upload.complete(parts));
}

/** What cannot be aborted either is aborted by the bucket's lifecycle rule, after 7 days if not told otherwise. */
async function abort(upload: R2MultipartUploadLike): Promise<void> {
  await upload.abort().catch(() => undefined);
}

async function* sizedParts(pieces: Pieces, size: number, partSize: number): AsyncGenerator<Part, void, void> {
  const each = Math.max(partSize, Math.ceil(size / MOST_PARTS));
  for (let rest = size; rest > 0; rest -= each) {
    const part = Math.min(each, rest);
    yield { size: part, chunks: pieces.next(part) };
  }
}

async function* filledParts(pieces: Pieces, first: Part, partSize: number): AsyncGenerator<Part, void, void> {
  for (let part = first; part.size > 0; part = await pieces.take(partSize)) {
    yield part;
    if (part.size < partSize) return;
  }
}

/**
 * Sends a part as a stream of known length, no faster than R2 takes it.
 *
 * @throws the error of the chunks where these fail, else StorageError
 */
async function send<Result>(
  place: R2Place,
  { size, chunks }: Part,
  upload: (body: ReadableStream) => Promise<Result>,
): Promise<Result> {
  const { readable, writable } = new FixedLengthStream(size);
  const writer = writable.getWriter();
  const source = { failed: false, error: undefined as unknown };
  const pump = async (): Promise<void> => {
    const iterator = chunks[Symbol.asyncIterator]();
    for (;;) {
      const next = await iterator.next().catch((error: unknown) => {
        source.failed = true;
        source.error = error;
        throw error;
      });
      if (next.done === true) break;
      await writer.write(next.value);
    }
    await writer.close();
  };
  const uploading = upload(readable);
  try {
    const [result] = await Promise.all([uploading, pump()]);
    return result;
  } catch (error) {
    // Not awaited: it waits for a reader that may be gone.
    void writer.abort(error).catch(() => undefined);
    // Nothing of it may appear later on.
    await uploading.catch(() => undefined);
    throw source.failed ? source.error : failed('store', place.key, error);
  }
}

/** The chunks of a source, to be taken in pieces of any length. */
class Pieces {
  readonly #chunks: AsyncGenerator<Uint8Array, void, void>;
  #rest: Uint8Array | undefined;

  constructor(chunks: AsyncGenerator<Uint8Array, void, void>) {
    this.#chunks = chunks;
  }

  /** The next chunks, of `size` bytes altogether or of all that there are; the last one is cut. */
  async *next(size: number): AsyncGenerator<Uint8Array, void, void> {
    let missing = size;
    while (missing > 0) {
      const chunk = this.#rest ?? (await this.#pull());
      this.#rest = undefined;
      if (chunk === null) return;
      if (chunk.length > missing) this.#rest = chunk.subarray(missing);
      const piece = chunk.subarray(0, missing);
      missing -= piece.length;
      yield piece;
    }
  }

  /** Copies of the next `size` bytes, or of all that there are: their source may use its arrays again. */
  async take(size: number): Promise<Part> {
    const chunks: Uint8Array[] = [];
    let taken = 0;
    for await (const chunk of this.next(size)) {
      chunks.push(chunk.slice());
      taken += chunk.length;
    }
    return { size: taken, chunks: drained(chunks) };
  }

  rest(): AsyncGenerator<Uint8Array, void, void> {
    return this.next(Infinity);
  }

  /** Reads on to the end, where the source throws if it was not whole. */
  async expectEnd(): Promise<void> {
    for await (const _ of this.rest()) throw new Error('More came than the parts have');
  }

  /** Leaves the source; not awaited, as it may stand still. */
  leave(): void {
    void this.#chunks.return().catch(() => undefined);
  }

  async #pull(): Promise<Uint8Array | null> {
    const next = await this.#chunks.next();
    return next.done === true ? null : next.value;
  }
}

/** The same chunks, the last one only when the source has ended well. */
async function* heldBack(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
  let held: Uint8Array | undefined;
  for await (const chunk of chunks) {
    if (held !== undefined) yield held;
    // A copy: the source may use its array again.
    held = chunk.slice();
  }
  if (held !== undefined) yield held;
}

/** The chunks, each forgotten once it is given: what has gone out must not take memory beside the next part. */
async function* drained(chunks: Uint8Array[]): AsyncGenerator<Uint8Array, void, void> {
  chunks.reverse();
  for (let chunk = chunks.pop(); chunk !== undefined; chunk = chunks.pop()) yield chunk;
}

function metadataOf({ contentType }: PutOptions): { httpMetadata?: R2HttpMetadataLike } {
  return contentType === undefined ? {} : { httpMetadata: { contentType } };
}

function putOptions(options: PutOptions): {
  httpMetadata?: R2HttpMetadataLike;
  onlyIf?: { etagDoesNotMatch: string };
} {
  return {
    ...metadataOf(options),
    ...(options.ifAbsent === true ? { onlyIf: { etagDoesNotMatch: '*' } } : {}),
  };
}

/** What a put with `ifAbsent` met. */
async function whatIsThere(place: R2Place): Promise<PutResult> {
  const existing = await headObject(place);
  if (existing !== null) return { written: false, size: existing.size };
  throw new StorageError(`Cannot store ${JSON.stringify(place.key)}: the object that was there is gone now`);
}
