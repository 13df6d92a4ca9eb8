import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createS3Store } from '../../../src/storage/s3/s3.ts';
import type { ByteStream } from '../../../src/stream/byte-stream.ts';
import { s3Error, startS3FaultProxy } from '../../support/s3-fault-proxy.ts';
import type { S3Server } from '../../support/s3-server.ts';
import { startSwiftServer, swiftSkipReason } from '../../support/swift-server.ts';
import { testBlobStore } from './blob-store.contract.ts';
import { s3StoreOptions } from '../../support/s3-store.ts';
import { createS3Subject } from './s3-subject.ts';
import { noise } from './subject.ts';

const PART = 5 * 1024 * 1024;

const missing = swiftSkipReason();

// Four Python programs answer each request: a thousand puts take half a minute on two busy cores. Swift promises that
// readers see a replaced object eventually: now and then it has none at all for a moment, and the test is tried again.
describe.skipIf(missing !== null)(
  `over Debian's Swift${missing === null ? '' : ` (${missing})`}`,
  { timeout: 180_000, retry: 2 },
  () => {
    let server: S3Server;

    beforeAll(async () => {
      server = await startSwiftServer();
    });

    afterAll(async () => {
      await server?.close();
    });

    testBlobStore({
      name: 's3',
      create: () => createS3Subject(server),
      unsupported: { ifAbsent: 'Swift has no conditional writes (501)' },
    });

    test('a sweep removes the uploads of dead writers under its prefix, no younger ones and not its own', async () => {
      const proxy = await startS3FaultProxy(server);
      const options = { ...s3StoreOptions(proxy.server), partSize: PART, maxAttempts: 1 };
      const store = createS3Store(options);
      const other = createS3Store({ ...s3StoreOptions(proxy.server), partSize: PART, maxAttempts: 1 });
      const left = (): Promise<readonly string[]> => server.openUploads(`${options.prefix}/`);
      const body = noise(PART + 1000);
      // A writer that cannot even clean up, as a killed one.
      proxy.fail('CompleteMultipartUpload', s3Error(403, 'AccessDenied'), 2);
      proxy.fail('AbortMultipartUpload', s3Error(403, 'AccessDenied'), 2);
      for (const writer of [store, other]) {
        await expect(writer.put('nar/dead', { kind: 'bytes', bytes: body })).rejects.toThrow(/AccessDenied/);
      }
      expect(await left()).toEqual([`${options.prefix}/nar/dead`]);
      expect(await store.sweep(Date.now() - 3_600_000)).toEqual({ removed: 0, freed: 0 });
      const later = Date.now() + 3_600_000;
      expect(await store.sweep(later, { dryRun: true })).toEqual({ removed: 1, freed: body.length });
      expect(await left()).toHaveLength(1);
      const source = async function* (): ByteStream {
        yield body;
        expect(await left()).toHaveLength(2);
        expect(await store.sweep(Date.now() + 3_600_000)).toEqual({ removed: 1, freed: body.length });
        yield body;
      };
      await store.put('nar/live', { kind: 'stream', stream: source() });
      expect((await store.head('nar/live'))?.size).toBe(2 * body.length);
      expect(await left()).toEqual([]);
      expect(await other.sweep(Date.now() + 3_600_000)).toEqual({ removed: 1, freed: body.length });
      await store.close();
      await other.close();
      await proxy.server.close();
    });

    test('a put if absent finds out that there are no conditions, and looks first', async () => {
      const store = createS3Store(s3StoreOptions(server));
      const source = { kind: 'bytes', bytes: noise(10) } as const;
      expect(await store.put('nar/a', source, { ifAbsent: true })).toEqual({ written: true, size: 10 });
      expect(await store.put('nar/a', source, { ifAbsent: true })).toEqual({ written: false, size: 10 });
      await store.close();
    });

    test('a download URL works, for GET alone', async () => {
      const store = createS3Store(s3StoreOptions(server));
      const bytes = noise(100);
      await store.put('nar/a', { kind: 'bytes', bytes });
      const url = (await store.createDownloadUrl?.('nar/a', { expiresInSeconds: 60 })) ?? '';
      expect(Buffer.compare(new Uint8Array(await (await fetch(url)).arrayBuffer()), bytes)).toBe(0);
      expect((await fetch(url, { method: 'HEAD' })).status).toBe(403);
      await store.close();
    });
  },
);
