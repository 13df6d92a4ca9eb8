import { Agent } from 'node:http';
import { createS3Store } from '../../../src/storage/s3/s3.ts';
import type { S3Server } from '../../support/s3-server.ts';
import { s3StoreOptions } from '../../support/s3-store.ts';
import type { BlobStoreSubject } from './blob-store.contract.ts';

/** A store of its own on a server, for the contract. */
export async function createS3Subject(server: S3Server): Promise<BlobStoreSubject> {
  const options = s3StoreOptions(server);
  const agent = new Agent({ keepAlive: true });
  return {
    store: createS3Store({ ...options, requestHandler: { httpAgent: agent } }),
    leftovers: () => server.openUploads(`${options.prefix}/`),
    // Connections that wait to be used again are no body's.
    held: () => Object.values(agent.sockets).reduce((sum, sockets) => sum + (sockets?.length ?? 0), 0),
    cleanup: async () => undefined,
  };
}
