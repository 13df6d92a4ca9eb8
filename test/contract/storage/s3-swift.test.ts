import { afterAll, beforeAll, describe } from 'vitest';
import type { S3Server } from '../../support/s3-server.ts';
import { startSwiftServer, swiftSkipReason } from '../../support/swift-server.ts';
import { testBlobStore } from './blob-store.contract.ts';
import { createS3Subject } from './s3-subject.ts';

const missing = swiftSkipReason();
const name = `over Debian's Swift${missing === null ? '' : ` (${missing})`}`;

// Four Python programs answer each request: a thousand puts take half a minute on two busy cores.
describe.skipIf(missing !== null)(name, { timeout: 180_000 }, () => {
  let server: S3Server;

  beforeAll(async () => {
    server = await startSwiftServer();
  });

  afterAll(async () => {
    await server.close();
  });

  testBlobStore({
    name: 's3',
    create: () => createS3Subject(server),
    unsupported: { ifAbsent: 'Swift has no conditional writes (501)' },
  });
});
