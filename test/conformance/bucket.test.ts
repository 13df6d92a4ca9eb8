import { describe, expect, it } from 'vitest';
import { createS3Store } from '../../src/storage/s3/s3.ts';
import { openClosure } from '../support/closure.ts';
import { startPublicBucket } from '../support/public-bucket.ts';
import { skipReason } from '../support/require.ts';
import { startS3Server } from '../support/s3-server.ts';
import { s3StoreOptions } from '../support/s3-store.ts';
import { startTestCache } from '../support/test-cache.ts';
import { UPSTREAM_COMPRESSIONS, upstreamCacheOf } from '../support/upstream-cache.ts';
import { createBench, expectSameAsSource } from './harness.ts';

const reason = skipReason('nix', 'nix-store', 'nix-build');

describe.skipIf(reason !== null)(
  `law 8: a bucket of S3 is itself a binary cache${reason === null ? '' : ` (${reason})`}`,
  () => {
    const bench = createBench();

    it.each(UPSTREAM_COMPRESSIONS.filter((name) => name === 'xz' || name === 'none'))(
      'after a closure in %s was copied through Snowcap, a plain client copies it from the bucket, with no Snowcap running',
      async (compression) => {
        const server = await startS3Server();
        bench.afterwards(() => server.close());
        const options = s3StoreOptions(server);
        const closure = await openClosure();
        const upstream = await bench.upstream(await upstreamCacheOf(closure, compression));
        const snowcap = await startTestCache({
          upstreams: [upstream.url],
          trustedPublicKeys: [closure.publicKey],
          // Parts as small as they may be: the large path of the closure is stored in several.
          replace: () => ({ storage: createS3Store({ ...options, partSize: 5 * 1024 * 1024 }) }),
        });
        await snowcap.cache.startUp();
        const first = await bench.client();
        const filled = await first.copyFrom(snowcap.url, [closure.root], {
          trustedPublicKeys: [closure.publicKey],
        });
        expect(filled.code, filled.stderr).toBe(0);
        await snowcap.settled();
        await snowcap.close();
        await upstream.down();

        const store = createS3Store(options);
        const bucket = await startPublicBucket(store);
        bench.afterwards(async () => {
          await bucket.close();
          await store.close();
        });
        const client = await bench.client();
        const copied = await client.copyFrom(bucket.url, [closure.root], {
          trustedPublicKeys: [...snowcap.cache.publicKeys],
        });
        expect(copied.code, copied.stderr).toBe(0);
        await expectSameAsSource(client, closure, closure.root);
        await client.verify();
        expect(bucket.requests.filter((request) => request.includes('/nar/')).length).toBeGreaterThan(100);
        expect(await server.openUploads(`${options.prefix}/`)).toEqual([]);
      },
    );
  },
);
