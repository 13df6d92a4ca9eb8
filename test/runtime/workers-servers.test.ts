import { afterAll } from 'vitest';
import { migratePostgres } from '../../src/database/postgres/migrate.ts';
import { migrationsFor } from '../../src/database/read-migrations.ts';
import { startBundledWorker } from '../support/bundled-worker.ts';
import { postgresMissing, startPostgres } from '../support/postgres-server.ts';
import { startRedisRest } from '../support/redis-rest.ts';
import { RedisServer } from '../support/redis-server.ts';
import { skipReason } from '../support/require.ts';
import { startS3Server } from '../support/s3-server.ts';
import { testRuntime } from './runtime.contract.ts';

/** S3, PostgreSQL and a Redis behind REST, for all tests of this file: each Worker has a part of its own in them. */
async function startServers() {
  const [s3, postgres, redis] = await Promise.all([startS3Server(), startPostgres(), RedisServer.start()]);
  const rest = await startRedisRest(redis.url());
  const close = async (): Promise<void> => {
    await rest.close();
    await Promise.all([redis.stop(), postgres.stop(), s3.close()]);
  };
  return { s3, postgres, rest, close };
}

let servers: ReturnType<typeof startServers> | undefined;
let parts = 0;

afterAll(async () => {
  await (await servers)?.close();
});

testRuntime({
  name: 'Cloudflare Workers over S3, PostgreSQL behind Hyperdrive and Redis behind REST',
  missing: postgresMissing() ?? skipReason('redis-server'),
  async start({ upstreams, trustedPublicKeys, delivery, env = {} }) {
    servers ??= startServers();
    const { s3, postgres, rest } = await servers;
    parts += 1;
    const database = await postgres.createDatabase();
    await migratePostgres(database, migrationsFor('postgres'));
    const query = new URLSearchParams({ endpoint: s3.endpoint, region: s3.region, pathStyle: 'true' });
    return await startBundledWorker({
      hyperdrive: database,
      settings: {
        SNOWCAP_STORAGE: `s3://${s3.bucket}/part-${parts}?${query.toString()}`,
        SNOWCAP_DATABASE: 'hyperdrive:DB',
        SNOWCAP_LOCK: 'upstash',
        SNOWCAP_LOCK_PREFIX: `part-${parts}:`,
        UPSTASH_REDIS_REST_URL: rest.url,
        UPSTASH_REDIS_REST_TOKEN: rest.token,
        AWS_ACCESS_KEY_ID: s3.credentials.accessKeyId,
        AWS_SECRET_ACCESS_KEY: s3.credentials.secretAccessKey,
        SNOWCAP_UPSTREAMS: upstreams.join(' '),
        SNOWCAP_TRUSTED_PUBLIC_KEYS: trustedPublicKeys.join(' '),
        SNOWCAP_NAR_DELIVERY: delivery,
        ...env,
      },
    });
  },
  largeNar: 'streamed',
});
