import { GetObjectCommand, HeadObjectCommand } from '@aws-sdk/client-s3';
import type { GetObjectCommandOutput } from '@aws-sdk/client-s3';
import { collect } from '../../stream/byte-stream.ts';
import { INLINE_BODY_LIMIT, resolveRange, StorageError } from '../blob-store.ts';
import type { BlobInfo, ByteRange, GetOptions, StoredBlob, UnsatisfiableRange } from '../blob-store.ts';
import { answerBody } from './answer-body.ts';
import { bucketKey, failure, sendOptions } from './client.ts';
import type { S3Context } from './client.ts';
import { faultOf, isMissingKey } from './errors.ts';
import { objectStream } from './read-stream.ts';

/**
 * Opens an object with one GetObject. A range that RFC 9110 does not allow (no last bytes, an end before the
 * start) would be ignored by the server, and costs one HEAD instead.
 *
 * @throws StorageError
 */
export async function readObject(
  context: S3Context,
  key: string,
  { range, signal }: GetOptions = {},
): Promise<StoredBlob | UnsatisfiableRange | null> {
  signal?.throwIfAborted();
  if (range !== undefined && isEmpty(range)) return unsatisfiable(context, key, signal);
  const command = new GetObjectCommand({
    Bucket: context.bucket,
    Key: bucketKey(context, key),
    ...(range === undefined ? {} : { Range: rangeHeader(range) }),
  });
  let answer: GetObjectCommandOutput;
  try {
    answer = await context.client.send(command, sendOptions(context, signal));
  } catch (error) {
    const fault = faultOf(error);
    if (isMissingKey(fault)) return null;
    if (fault.status !== 416 || signal?.aborted === true) throw failure('read', key, error, signal);
    const size = /^bytes \*\/(\d+)$/.exec(fault.header('content-range') ?? '')?.[1];
    return size === undefined
      ? unsatisfiable(context, key, signal)
      : { kind: 'unsatisfiable', size: Number(size) };
  }
  context.server.bucketSeen = true;
  const body = answerBody(answer.Body);
  try {
    const place = placeOf(key, answer);
    const expected = resolveRange(range, place.size);
    if (expected === null) {
      // An object of no bytes, of which some servers give every range.
      body.cancel();
      return { kind: 'unsatisfiable', size: place.size };
    }
    if (expected.start !== place.start || expected.end !== place.end) {
      throw new StorageError(
        `Cannot read ${JSON.stringify(key)}: S3 gave the bytes ${place.start} to ${place.end} for the range ${expected.start} to ${expected.end}`,
      );
    }
    const found = { kind: 'found', key, modifiedAt: modifiedAt(key, answer.LastModified), ...place } as const;
    const stream = objectStream(context, { ...place, key, etag: answer.ETag, body }, signal);
    if (place.end - place.start >= INLINE_BODY_LIMIT) return { ...found, body: { kind: 'stream', stream } };
    return { ...found, body: { kind: 'bytes', bytes: await collect(stream, INLINE_BODY_LIMIT) } };
  } catch (error) {
    body.cancel();
    throw error;
  }
}

/**
 * Size and time of an object; null if absent.
 *
 * @throws StorageError
 */
export async function headObject(context: S3Context, key: string): Promise<BlobInfo | null> {
  return (await headWithWriteId(context, key, undefined))?.info ?? null;
}

/** What a HEAD says of an object. */
export interface HeadAnswer {
  readonly info: BlobInfo;
  /** That of the write which the object is of; undefined for one of somebody else. */
  readonly writeId: string | undefined;
}

/** The metadata in which an object keeps the write that it is of. */
export const WRITE_ID = 'snowcap-write';

/** @throws StorageError */
export async function headWithWriteId(
  context: S3Context,
  key: string,
  signal: AbortSignal | undefined,
): Promise<HeadAnswer | null> {
  const command = new HeadObjectCommand({ Bucket: context.bucket, Key: bucketKey(context, key) });
  try {
    const answer = await context.client.send(command, sendOptions(context, signal));
    context.server.bucketSeen = true;
    const { size } = placeOf(key, answer);
    return {
      info: { key, size, modifiedAt: modifiedAt(key, answer.LastModified) },
      writeId: answer.Metadata?.[WRITE_ID],
    };
  } catch (error) {
    if (faultOf(error).status !== 404 || signal?.aborted === true) {
      throw failure('look for', key, error, signal);
    }
    // The answer to a HEAD has no body that would say what is missing: once, look whether it is the bucket.
    if (!context.server.bucketSeen) await checkBucket(context);
    return null;
  }
}

/** What is read to see whether the bucket can be read: there once the cache has started. */
const PROBE = 'nix-cache-info';

/**
 * Reads one object, there or not: shows a wrong bucket, wrong credentials and a dead endpoint, and needs no
 * permission that is not needed anyway.
 *
 * @throws StorageError
 */
export async function checkBucket(context: S3Context): Promise<void> {
  const probe = await readObject(context, PROBE);
  if (probe?.kind === 'found' && probe.body.kind === 'stream') {
    await probe.body.stream[Symbol.asyncIterator]().return?.();
  }
  context.server.bucketSeen = true;
}

function isEmpty(range: ByteRange): boolean {
  return 'suffix' in range ? range.suffix <= 0 : (range.end ?? range.start) < range.start;
}

function rangeHeader(range: ByteRange): string {
  return 'suffix' in range ? `bytes=-${range.suffix}` : `bytes=${range.start}-${range.end ?? ''}`;
}

async function unsatisfiable(
  context: S3Context,
  key: string,
  signal: AbortSignal | undefined,
): Promise<UnsatisfiableRange | null> {
  const head = await headWithWriteId(context, key, signal);
  return head === null ? null : { kind: 'unsatisfiable', size: head.info.size };
}

interface Place {
  /** Bytes of the whole object. */
  readonly size: number;
  /** First and last byte of the answer, both inclusive. */
  readonly start: number;
  readonly end: number;
}

function placeOf(
  key: string,
  answer: { readonly ContentRange?: string | undefined; readonly ContentLength?: number | undefined },
): Place {
  const [, start, end, size] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(answer.ContentRange ?? '') ?? [];
  if (start !== undefined) return { start: Number(start), end: Number(end), size: Number(size) };
  if (answer.ContentLength === undefined) {
    throw new StorageError(`Cannot read ${JSON.stringify(key)}: S3 gave neither a range nor a length`);
  }
  return { start: 0, end: answer.ContentLength - 1, size: answer.ContentLength };
}

/** In whole seconds, as HTTP has it, also where a listing knows more: an object has one time. */
export function modifiedAt(key: string, date: Date | undefined): number {
  if (date === undefined) throw new StorageError(`Cannot read ${JSON.stringify(key)}: S3 gave no time`);
  return Math.floor(date.getTime() / 1000) * 1000;
}
