import { randomUUID } from 'node:crypto';
import { Agent } from 'node:http';
import { s3ForNode } from '../../../src/storage/s3/for-node.ts';
import type { S3StoreOptions } from '../../../src/storage/s3/options.ts';
import { createS3Store } from '../../../src/storage/s3/s3.ts';
import type { S3Server } from '../../support/s3-server.ts';
import type { BlobStoreSubject } from './blob-store.contract.ts';

/** The options of a store of its own on a server: what is there of others lies under other prefixes. */
export function optionsFor(server: S3Server): S3StoreOptions & { readonly prefix: string } {
  const { endpoint, bucket, region, credentials } = server;
  const prefix = `test/${randomUUID()}`;
  return { ...s3ForNode(), endpoint, bucket, region, credentials, prefix, pathStyle: true };
}

/** A store of its own on a server, for the contract. */
export async function createS3Subject(server: S3Server): Promise<BlobStoreSubject> {
  const options = optionsFor(server);
  const agent = new Agent({ keepAlive: true });
  return {
    store: createS3Store({ ...options, requestHandler: { httpAgent: agent } }),
    leftovers: () => server.openUploads(`${options.prefix}/`),
    // Connections that wait to be used again are no body's.
    held: () => Object.values(agent.sockets).reduce((sum, sockets) => sum + (sockets?.length ?? 0), 0),
    cleanup: async () => undefined,
  };
}
