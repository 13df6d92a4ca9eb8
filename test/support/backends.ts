import { migratePostgres } from '../../src/database/postgres/migrate.ts';
import { migrationsFor } from '../../src/database/read-migrations.ts';
import { postgresMissing, startPostgres } from './postgres-server.ts';
import { startRedisRest } from './redis-rest.ts';
import { RedisServer } from './redis-server.ts';
import { skipReason } from './require.ts';
import { startS3Server } from './s3-server.ts';

/** What several instances of one cache share: a bucket, a database and a Redis, all of them real servers. */
export interface Backends {
  /** The settings of a new, empty cache over them. */
  fresh(): Promise<Readonly<Record<string, string>>>;
  /** The same Redis over TCP. */
  readonly redisUrl: string;
  stop(): Promise<void>;
}

/** Why they cannot be started here; null if they can. */
export function backendsMissing(): string | null {
  return postgresMissing() ?? skipReason('redis-server');
}

export async function startBackends(): Promise<Backends> {
  const ends: (() => Promise<unknown>)[] = [];
  const stop = async (): Promise<void> => {
    for (const end of ends.splice(0).toReversed()) await end();
  };
  try {
    const s3 = await startS3Server();
    ends.push(() => s3.close());
    const redis = await RedisServer.start();
    ends.push(() => redis.stop());
    const rest = await startRedisRest(redis.url());
    ends.push(() => rest.close());
    const postgres = await startPostgres();
    ends.push(() => postgres.stop());
    let caches = 0;
    return {
      async fresh() {
        caches += 1;
        const database = await postgres.createDatabase();
        await migratePostgres(database, migrationsFor('postgres'));
        const place = `s3://${s3.bucket}/cache-${caches}/`;
        const query = new URLSearchParams({ endpoint: s3.endpoint, region: s3.region, pathStyle: 'true' });
        return {
          SNOWCAP_STORAGE: `${place}?${query.toString()}`,
          AWS_ACCESS_KEY_ID: s3.credentials.accessKeyId,
          AWS_SECRET_ACCESS_KEY: s3.credentials.secretAccessKey,
          SNOWCAP_DATABASE: database,
          SNOWCAP_DATABASE_POOL_SIZE: '4',
          SNOWCAP_LOCK: 'upstash',
          SNOWCAP_LOCK_PREFIX: `cache-${caches}:`,
          UPSTASH_REDIS_REST_URL: rest.url,
          UPSTASH_REDIS_REST_TOKEN: rest.token,
        };
      },
      redisUrl: redis.url(),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}
