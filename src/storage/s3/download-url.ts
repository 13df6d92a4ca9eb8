import { GetObjectCommand } from '@aws-sdk/client-s3';
import type { S3Client } from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { StorageError } from '../blob-store.ts';
import { bucketKey } from './client.ts';
import type { S3Context } from './client.ts';
import { failed } from './errors.ts';

/** The longest that Signature Version 4 allows: a week. */
const LONGEST = 7 * 24 * 60 * 60;
/**
 * Seconds by which a URL ends before the credentials that signed it: clocks differ, and a client takes its
 * time.
 */
const MARGIN = 60;

/**
 * A presigned GET. The method is signed: a HEAD needs a URL of its own. Whoever uses it later than its
 * credentials live is refused, whatever it says of itself, so it says no more than they live.
 *
 * @param signer for the endpoint as clients reach it
 * @throws StorageError where there are no credentials, or they end too soon
 */
export async function createDownloadUrl(
  context: S3Context,
  signer: S3Client,
  key: string,
  expiresInSeconds: number,
): Promise<string> {
  if (!(expiresInSeconds >= 1)) {
    throw new RangeError(`A download URL cannot work for ${expiresInSeconds} seconds`);
  }
  const command = new GetObjectCommand({ Bucket: context.bucket, Key: bucketKey(context, key) });
  try {
    const { expiration } = await signer.config.credentials();
    const signedAt = context.settings.now();
    const left =
      expiration === undefined ? LONGEST : Math.floor((expiration.getTime() - signedAt) / 1000) - MARGIN;
    if (left < 1) {
      throw new StorageError(
        `Cannot make a download URL for ${JSON.stringify(key)}: its credentials end within ${MARGIN} seconds`,
      );
    }
    return await getSignedUrl(signer, command, {
      expiresIn: Math.min(LONGEST, Math.floor(expiresInSeconds), left),
      signingDate: new Date(signedAt),
    });
  } catch (error) {
    throw failed('make a download URL for', key, error);
  }
}
