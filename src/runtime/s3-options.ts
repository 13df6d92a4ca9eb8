import type { AwsCredentials, S3Config } from '../config/config.ts';
import type { S3StoreOptions } from '../storage/s3/options.ts';

/** What the driver takes of a configuration. @param credentials null: the SDK looks for them itself, where it can */
export function s3OptionsOf(config: S3Config, credentials: AwsCredentials | null): S3StoreOptions {
  const { bucket, prefix, endpoint, publicEndpoint, pathStyle, partSize, concurrency } = config;
  // A server that is not AWS has no region of AWS; without an endpoint the SDK finds it as it finds credentials.
  const region = config.region ?? (endpoint === null ? null : 'auto');
  return {
    bucket,
    prefix: prefix.replace(/\/$/, ''),
    pathStyle,
    partSize,
    concurrency,
    ...(region === null ? {} : { region }),
    ...(endpoint === null ? {} : { endpoint }),
    ...(publicEndpoint === null ? {} : { publicEndpoint }),
    ...(credentials === null ? {} : { credentials: keysOf(credentials) }),
  };
}

function keysOf({ accessKeyId, secretAccessKey, sessionToken }: AwsCredentials) {
  return { accessKeyId, secretAccessKey, ...(sessionToken === null ? {} : { sessionToken }) };
}
