import { ListObjectsV2Command } from '@aws-sdk/client-s3';
import type { ListObjectsV2CommandOutput } from '@aws-sdk/client-s3';
import { isKey, StorageError } from '../blob-store.ts';
import type { BlobInfo } from '../blob-store.ts';
import { bucketKey, sendOptions } from './client.ts';
import type { S3Context } from './client.ts';
import { failed } from './errors.ts';
import { modifiedAt } from './read.ts';

/**
 * The objects under a prefix, a page of up to 1,000 at a time. S3 sorts by the bytes of UTF-8, which for the
 * characters of keys is the order of code units. (Directory buckets of S3 Express do not sort: they are no
 * store.)
 *
 * Objects whose names are no keys are not of the store, and left out.
 *
 * @param after a key of the store, or '' for all
 * @throws StorageError
 */
export async function* listObjects(
  context: S3Context,
  prefix: string,
  after: string,
): AsyncGenerator<BlobInfo, void, void> {
  const request = {
    Bucket: context.bucket,
    Prefix: bucketKey(context, prefix),
    ...(after === '' ? {} : { StartAfter: bucketKey(context, after) }),
  };
  let token: string | undefined;
  do {
    const page = await listPage(context, prefix, {
      ...request,
      ...(token === undefined ? {} : { ContinuationToken: token }),
    });
    for (const { Key, Size, LastModified } of page.Contents ?? []) {
      if (Key === undefined || Size === undefined) {
        throw new StorageError(
          `Cannot list ${JSON.stringify(prefix)}: S3 gave an object without key or size`,
        );
      }
      const key = Key.slice(context.settings.prefix.length);
      if (isKey(key)) yield { key, size: Size, modifiedAt: modifiedAt(key, LastModified) };
    }
    token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
    if (page.IsTruncated === true && token === undefined) {
      throw new StorageError(
        `Cannot list ${JSON.stringify(prefix)}: S3 gave a part of it and no way to go on`,
      );
    }
  } while (token !== undefined);
}

async function listPage(
  context: S3Context,
  prefix: string,
  request: ConstructorParameters<typeof ListObjectsV2Command>[0],
): Promise<ListObjectsV2CommandOutput> {
  try {
    return await context.client.send(new ListObjectsV2Command(request), sendOptions(context, undefined));
  } catch (error) {
    throw failed('list', prefix, error);
  }
}
