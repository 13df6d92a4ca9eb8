import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { StorageError } from '../blob-store.ts';
import type { PutResult } from '../blob-store.ts';
import { bucketKey, failure, sendOptions } from './client.ts';
import type { S3Context } from './client.ts';
import { faultOf, isUnknownToServer } from './errors.ts';
import { MAX_PARTS } from './options.ts';
import type { Part } from './parts.ts';
import { headWithWriteId, WRITE_ID } from './read.ts';

/** Milliseconds that the server has to put a large object together, at least. */
const COMPLETE_TIMEOUT = 120_000;

/** What an upload takes of the put that it is for. */
export interface UploadRequest {
  readonly key: string;
  readonly contentType: string | undefined;
  readonly ifAbsent: boolean;
  readonly writeId: string;
  /** Aborted by the caller, or through `fail`. */
  readonly signal: AbortSignal;
  /** Ends the whole put: a part could not be stored, whatever the source does at the time. */
  fail(error: unknown): void;
  /** The part is stored and its memory free. */
  release(part: Part): void;
}

/** A multipart upload that is under way. Either `complete` or `abort` ends it. */
export interface Upload {
  /** Begins to store a part, as soon as fewer than `concurrency` others are under way. */
  add(part: Part): Promise<void>;
  /** Makes the object visible, once all parts are stored. */
  complete(): Promise<PutResult>;
  /**
   * Removes what was stored of it, once nothing more is under way. Never throws: what an abort that fails
   * leaves, the sweep finds, or the bucket's lifecycle rule.
   */
  abort(): Promise<void>;
}

/**
 * Opens a multipart upload. Its parts are sent as bytes, which a new attempt can send again.
 *
 * Whether `CompleteMultipartUpload` did its work is not always told: the answer can be lost, and a second
 * attempt then finds no upload. The object says it: each carries the id of the write that it is of.
 *
 * @throws StorageError
 */
export async function openUpload(context: S3Context, request: UploadRequest): Promise<Upload> {
  const { key, signal, writeId } = request;
  const target = { Bucket: context.bucket, Key: bucketKey(context, key) };
  const uploadId = await createUpload(context, request);
  context.liveUploads.add(uploadId);
  const stored: { readonly PartNumber: number; readonly ETag: string }[] = [];
  const underWay = new Set<Promise<void>>();
  let parts = 0;
  let size = 0;

  const send = async (part: Part, number: number): Promise<void> => {
    const command = new UploadPartCommand({
      ...target,
      UploadId: uploadId,
      PartNumber: number,
      Body: part.bytes,
    });
    context.payloadHashes.set(part.bytes, part.sha256);
    try {
      const { ETag } = await context.client.send(command, sendOptions(context, signal, part.bytes.length));
      if (ETag === undefined) throw new Error('an answer without the ETag of a part');
      stored.push({ PartNumber: number, ETag });
      request.release(part);
    } catch (error) {
      request.fail(failure('store', key, error, signal));
    }
  };

  const complete = async (conditional: boolean): Promise<PutResult> => {
    const command = new CompleteMultipartUploadCommand({
      ...target,
      UploadId: uploadId,
      MultipartUpload: { Parts: stored.toSorted((one, other) => one.PartNumber - other.PartNumber) },
      ...(conditional ? { IfNoneMatch: '*' } : {}),
    });
    const { requestTimeout } = sendOptions(context, undefined);
    try {
      await context.client.send(command, {
        abortSignal: signal,
        requestTimeout: Math.max(requestTimeout, COMPLETE_TIMEOUT),
      });
      return { written: true, size };
    } catch (error) {
      if (signal.aborted) throw failure('store', key, error, signal);
      const fault = faultOf(error);
      if (conditional && isUnknownToServer(fault)) {
        context.server.conditionalWrites = false;
        return complete(false);
      }
      const there = await headWithWriteId(context, key, signal).catch(() => null);
      if (there?.writeId === writeId) return { written: true, size };
      if (conditional && (fault.status === 412 || fault.status === 409) && there !== null) {
        await abort();
        return { written: false, size: there.info.size };
      }
      throw failure('store', key, error, signal);
    }
  };

  const abort = async (): Promise<void> => {
    await Promise.all(underWay);
    const command = new AbortMultipartUploadCommand({ ...target, UploadId: uploadId });
    await context.client.send(command, sendOptions(context, undefined)).catch(() => undefined);
    context.liveUploads.delete(uploadId);
  };

  return {
    async add(part) {
      while (underWay.size >= context.settings.concurrency) await Promise.race(underWay);
      signal.throwIfAborted();
      parts += 1;
      if (parts > MAX_PARTS) throw tooLong(key, context.settings.partSize);
      size += part.bytes.length;
      const work = send(part, parts).finally(() => underWay.delete(work));
      underWay.add(work);
    },

    async complete() {
      await Promise.all(underWay);
      signal.throwIfAborted();
      // Always: of the servers that know the condition on PutObject, some ignore it here.
      const there = request.ifAbsent ? await headWithWriteId(context, key, signal) : null;
      if (there !== null) {
        await abort();
        return { written: false, size: there.info.size };
      }
      const result = await complete(request.ifAbsent && context.server.conditionalWrites);
      context.liveUploads.delete(uploadId);
      return result;
    },

    abort,
  };
}

/** Without the caller's signal: an upload whose id is not known cannot be removed. */
async function createUpload(context: S3Context, request: UploadRequest): Promise<string> {
  const command = new CreateMultipartUploadCommand({
    Bucket: context.bucket,
    Key: bucketKey(context, request.key),
    Metadata: { [WRITE_ID]: request.writeId },
    ...(request.contentType === undefined ? {} : { ContentType: request.contentType }),
  });
  try {
    const { UploadId } = await context.client.send(command, sendOptions(context, undefined));
    if (UploadId === undefined) throw new Error('an answer without the id of the upload');
    return UploadId;
  } catch (error) {
    throw failure('store', request.key, error, request.signal);
  }
}

/** For a body that S3 cannot take in parts of this size. */
export function tooLong(key: string, partSize: number): StorageError {
  return new StorageError(
    `Cannot store ${JSON.stringify(key)}: more than ${MAX_PARTS} parts of ${partSize} bytes; set a larger part size`,
  );
}
