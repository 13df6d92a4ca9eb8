import {
  AbortMultipartUploadCommand,
  DeleteObjectsCommand,
  ListMultipartUploadsCommand,
  ListPartsCommand,
} from '@aws-sdk/client-s3';
import type { ListMultipartUploadsCommandOutput } from '@aws-sdk/client-s3';
import { StorageError } from '../blob-store.ts';
import type { SweepOptions, SweepResult } from '../blob-store.ts';
import { bucketKey, sendOptions } from './client.ts';
import type { S3Context } from './client.ts';
import { failed, faultOf, isUnknownToServer } from './errors.ts';

/** Keys of one DeleteObjects, the most that S3 takes. */
const DELETE_BATCH = 1000;

/** @throws StorageError where the request failed, or any object of it */
export async function deleteObjects(context: S3Context, keys: readonly string[]): Promise<void> {
  for (let at = 0; at < keys.length; at += DELETE_BATCH) {
    const batch = keys.slice(at, at + DELETE_BATCH);
    const place = batch.length === 1 ? (batch[0] ?? '') : `${batch[0]} and ${batch.length - 1} more`;
    const command = new DeleteObjectsCommand({
      Bucket: context.bucket,
      Delete: { Quiet: true, Objects: batch.map((key) => ({ Key: bucketKey(context, key) })) },
    });
    try {
      const { Errors: errors = [] } = await context.client.send(command, sendOptions(context, undefined));
      // Some servers call an absent object an error.
      const [first, ...others] = errors.filter(({ Code }) => Code !== 'NoSuchKey');
      if (first !== undefined) {
        throw new StorageError(
          `Cannot delete ${JSON.stringify(first.Key ?? place)}: S3 gave ${first.Code ?? 'no code'}: ${first.Message ?? ''} (and ${others.length} more)`,
        );
      }
    } catch (error) {
      throw failed('delete', place, error);
    }
  }
}

/**
 * Aborts the multipart uploads under the prefix that began before `olderThan`, but for those of this store
 * that are under way; in a dry run only counts them. Where the server cannot list them, the bucket's lifecycle rule has to
 * (docs/storage-s3.md).
 *
 * @throws StorageError
 */
export async function sweepUploads(
  context: S3Context,
  olderThan: number,
  { dryRun = false }: SweepOptions = {},
): Promise<SweepResult> {
  let removed = 0;
  let freed = 0;
  try {
    for await (const { Key, UploadId, Initiated } of uploads(context)) {
      if (Key === undefined || UploadId === undefined || Initiated === undefined) continue;
      if (Initiated.getTime() >= olderThan || context.liveUploads.has(UploadId)) continue;
      const target = { Bucket: context.bucket, Key, UploadId };
      const size = await sizeOf(context, target);
      if (dryRun || (await aborted(context, target))) {
        removed += 1;
        freed += size;
      }
    }
  } catch (error) {
    if (isUnknownToServer(faultOf(error))) return { removed: 0, freed: 0 };
    throw failed('sweep', context.settings.prefix, error);
  }
  return { removed, freed };
}

interface UploadTarget {
  readonly Bucket: string;
  readonly Key: string;
  readonly UploadId: string;
}

async function* uploads(
  context: S3Context,
): AsyncGenerator<NonNullable<ListMultipartUploadsCommandOutput['Uploads']>[number], void, void> {
  let marker = {};
  for (;;) {
    const page = await context.client.send(
      new ListMultipartUploadsCommand({
        Bucket: context.bucket,
        Prefix: context.settings.prefix,
        ...marker,
      }),
      sendOptions(context, undefined),
    );
    yield* page.Uploads ?? [];
    if (page.IsTruncated !== true) return;
    marker = { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker };
  }
}

/** Bytes of the parts that are stored; 0 for an upload that is gone. */
async function sizeOf(context: S3Context, target: UploadTarget): Promise<number> {
  let size = 0;
  let marker: { readonly PartNumberMarker?: string } = {};
  try {
    for (;;) {
      const command = new ListPartsCommand({ ...target, ...marker });
      const page = await context.client.send(command, sendOptions(context, undefined));
      for (const part of page.Parts ?? []) size += part.Size ?? 0;
      if (page.IsTruncated !== true || page.NextPartNumberMarker === undefined) return size;
      marker = { PartNumberMarker: page.NextPartNumberMarker };
    }
  } catch (error) {
    if (faultOf(error).code === 'NoSuchUpload') return 0;
    throw error;
  }
}

/** Whether the upload was there to be aborted. */
async function aborted(context: S3Context, target: UploadTarget): Promise<boolean> {
  try {
    await context.client.send(new AbortMultipartUploadCommand(target), sendOptions(context, undefined));
    return true;
  } catch (error) {
    if (faultOf(error).code === 'NoSuchUpload') return false;
    throw error;
  }
}
