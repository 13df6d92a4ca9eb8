import { afterAll, beforeAll, describe } from 'vitest';
import type { S3Server } from '../../support/s3-server.ts';
import { startS3Server } from '../../support/s3-server.ts';
import { testBlobStore } from './blob-store.contract.ts';
import { createS3Subject } from './s3-subject.ts';

describe('over the S3 endpoint of local R2', () => {
  let server: S3Server;

  beforeAll(async () => {
    server = await startS3Server();
  });

  afterAll(async () => {
    await server?.close();
  });

  testBlobStore({ name: 's3', create: () => createS3Subject(server) });
});
