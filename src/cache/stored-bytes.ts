import { NAR_INFO_SIZE_LIMIT } from '../nix/nar-info.ts';
import type { BlobBody, BlobStore } from '../storage/blob-store.ts';
import { BodyTooLargeError, type ByteStream, collect, streamOf } from '../stream/byte-stream.ts';

/**
 * A small stored object as bytes; null where there is none.
 *
 * @param limit the most bytes that are accepted
 * @throws StorageError
 * @throws BodyTooLargeError where the object is larger than the limit
 */
export async function storedBytes(
  storage: Pick<BlobStore, 'get'>,
  key: string,
  limit: number,
): Promise<Uint8Array | null> {
  const blob = await storage.get(key);
  if (blob === null || blob.kind === 'unsatisfiable') return null;
  return blob.body.kind === 'bytes' ? blob.body.bytes : await collect(blob.body.stream, limit, key);
}

/** More bytes than any narinfo has: of its characters each may take four. */
export const MOST_NAR_INFO_BYTES: number = NAR_INFO_SIZE_LIMIT * 4;

/**
 * The narinfo of a path in the bucket; null where there is none. What is too large for one is given as no bytes: it is
 * none either, and must not hold up who goes through all of them.
 *
 * @param hash hash part of the store path
 * @throws StorageError
 */
export async function storedNarInfo(
  storage: Pick<BlobStore, 'get'>,
  hash: string,
): Promise<Uint8Array | null> {
  try {
    return await storedBytes(storage, `${hash}.narinfo`, MOST_NAR_INFO_BYTES);
  } catch (error) {
    if (error instanceof BodyTooLargeError) return new Uint8Array();
    throw error;
  }
}

/** Whether both are the same bytes; nothing is the same as nothing alone. */
export function sameBytes(left: Uint8Array | null, right: Uint8Array | null): boolean {
  if (left === null || right === null) return left === right;
  return left.length === right.length && left.every((byte, at) => byte === right[at]);
}

/** A body as a stream, whichever way it is there. It must be read to its end or left. */
export function streamOfBody(body: BlobBody): ByteStream {
  return body.kind === 'bytes' ? streamOf(body.bytes) : body.stream;
}
