import { randomUUID } from 'node:crypto';
import { s3ForNode } from '../../src/storage/s3/for-node.ts';
import type { S3StoreOptions } from '../../src/storage/s3/options.ts';
import type { S3Server } from './s3-server.ts';

/** The options of a store of its own on a server: what is there of others lies under other prefixes. */
export function s3StoreOptions(server: S3Server): S3StoreOptions & { readonly prefix: string } {
  const { endpoint, bucket, region, credentials } = server;
  const prefix = `test/${randomUUID()}`;
  return { ...s3ForNode(), endpoint, bucket, region, credentials, prefix, pathStyle: true };
}
