import { PutObjectCommand } from '@aws-sdk/client-s3';
import { streamOf } from '../../stream/byte-stream.ts';
import { sourceChunks } from '../blob-source.ts';
import type { StreamSource } from '../blob-source.ts';
import { StorageError } from '../blob-store.ts';
import type { BlobSource, PutOptions, PutResult } from '../blob-store.ts';
import { backOff, bucketKey, failure, sendOptions } from './client.ts';
import type { S3Context } from './client.ts';
import { createHexSha256 } from './digest.ts';
import { faultOf, isUnknownToServer } from './errors.ts';
import { fileChunks } from './file-source.ts';
import type { FileAccess, OpenFile } from './file-source.ts';
import { MAX_PARTS } from './options.ts';
import { createPartCutter } from './parts.ts';
import type { Part } from './parts.ts';
import { headWithWriteId, WRITE_ID } from './read.ts';
import { openUpload, tooLong } from './upload.ts';
import type { Upload } from './upload.ts';

/** How often an object that was removed between the server's refusal and our look is written anew. */
const ATTEMPTS = 5;

/**
 * Stores an object: in one request up to `partSize`, else in parts. Either is visible only as a whole, and is
 * begun to be made visible only when its source has ended well.
 *
 * @throws StorageError; what the source throws; the signal's reason
 */
export async function writeObject(
  context: S3Context,
  key: string,
  source: BlobSource,
  options: PutOptions = {},
): Promise<PutResult> {
  options.signal?.throwIfAborted();
  switch (source.kind) {
    case 'bytes': {
      const { bytes } = source;
      if (bytes.length > context.settings.partSize) {
        return writeStream(context, key, { stream: streamOf(bytes), size: bytes.length }, options);
      }
      const hash = createHexSha256();
      hash.update(bytes);
      return writeWhole(context, key, { bytes, sha256: hash.digest(), last: true }, options);
    }
    case 'stream':
      return writeStream(context, key, source, options);
    case 'file':
      return writeFile(context, key, source, options);
  }
}

async function writeFile(
  context: S3Context,
  key: string,
  source: { readonly path: string; readonly size: number },
  options: PutOptions,
): Promise<PutResult> {
  const { files } = context.settings;
  if (files === undefined) {
    throw new StorageError(`Cannot store ${JSON.stringify(key)}: there are no files here`);
  }
  const file = await openSource(files, key, source);
  let result: PutResult;
  try {
    const stream = fileChunks(key, file);
    result = await writeStream(context, key, { stream, size: source.size }, options);
  } finally {
    await file.close();
  }
  await orCannotStore(key, files.remove(source.path));
  return result;
}

async function openSource(
  files: FileAccess,
  key: string,
  source: { readonly path: string; readonly size: number },
): Promise<OpenFile> {
  const file = await orCannotStore(key, files.open(source.path));
  if (file.size === source.size) return file;
  await file.close();
  throw new StorageError(
    `Cannot store ${JSON.stringify(key)}: the file ${source.path} has ${file.size} bytes instead of ${source.size}`,
  );
}

async function orCannotStore<Result>(key: string, step: Promise<Result>): Promise<Result> {
  try {
    return await step;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new StorageError(`Cannot store ${JSON.stringify(key)}: ${why}`, { cause });
  }
}

async function writeStream(
  context: S3Context,
  key: string,
  source: StreamSource,
  options: PutOptions,
): Promise<PutResult> {
  const { partSize } = context.settings;
  if ((source.size ?? 0) > partSize * MAX_PARTS) throw tooLong(key, partSize);
  // Ends the wait for a source that stands still, too, when a part could not be stored.
  const broken = new AbortController();
  const signal =
    options.signal === undefined ? broken.signal : AbortSignal.any([options.signal, broken.signal]);
  const cutter = createPartCutter(partSize, source.size);
  let upload: Upload | null = null;
  try {
    for await (const part of cutter.parts(sourceChunks(key, source, signal))) {
      if (part.last && upload === null) return await writeWhole(context, key, part, options);
      upload ??= await openUpload(context, {
        key,
        contentType: options.contentType,
        ifAbsent: options.ifAbsent === true,
        writeId: context.settings.newWriteId(),
        signal,
        fail: (error) => {
          broken.abort(error);
        },
        release: cutter.release,
      });
      await upload.add(part);
    }
    // The loop ends with the last part, so there is one.
    if (upload === null) throw new StorageError(`Cannot store ${JSON.stringify(key)}: it has no last part`);
    return await upload.complete();
  } catch (error) {
    broken.abort(error);
    await upload?.abort();
    throw error;
  }
}

async function writeWhole(
  context: S3Context,
  key: string,
  { bytes, sha256 }: Part,
  options: PutOptions,
): Promise<PutResult> {
  const { signal } = options;
  const ifAbsent = options.ifAbsent === true;
  const writeId = context.settings.newWriteId();
  const size = bytes.length;
  context.payloadHashes.set(bytes, sha256);
  for (let attempt = 1; ; attempt++) {
    signal?.throwIfAborted();
    const conditional = ifAbsent && context.server.conditionalWrites;
    if (ifAbsent && !conditional) {
      const there = await headWithWriteId(context, key, signal);
      if (there !== null) return { written: false, size: there.info.size };
    }
    const command = new PutObjectCommand({
      Bucket: context.bucket,
      Key: bucketKey(context, key),
      Body: bytes,
      Metadata: { [WRITE_ID]: writeId },
      ...(options.contentType === undefined ? {} : { ContentType: options.contentType }),
      ...(conditional ? { IfNoneMatch: '*' } : {}),
    });
    try {
      await context.client.send(command, sendOptions(context, signal, size));
      return { written: true, size };
    } catch (error) {
      if (signal?.aborted === true || !conditional) throw failure('store', key, error, signal);
      const fault = faultOf(error);
      if (isUnknownToServer(fault)) {
        context.server.conditionalWrites = false;
        continue;
      }
      if (fault.status !== 412 && fault.status !== 409) throw failure('store', key, error, signal);
      const there = await headWithWriteId(context, key, signal);
      // Ours, where the answer of the first attempt was lost.
      if (there !== null) return { written: there.writeId === writeId, size: there.info.size };
      if (attempt === ATTEMPTS) throw failure('store', key, error, signal);
    }
    await backOff(context, attempt, signal);
  }
}
