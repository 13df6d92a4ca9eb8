import { randomUUID } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import { createMysqlStore } from '../../src/database/mysql/store.ts';
import { migrateMysql } from '../../src/database/mysql/migrate.ts';
import { createPostgresStore } from '../../src/database/postgres/store.ts';
import { migratePostgres } from '../../src/database/postgres/migrate.ts';
import { migrationsFor } from '../../src/database/read-migrations.ts';
import type { IndexStore } from '../../src/database/index-store.ts';
import { mysqlMissing, startMysql } from '../support/mysql-server.ts';
import { postgresMissing, startPostgres } from '../support/postgres-server.ts';
import { type RedisRest, startRedisRest } from '../support/redis-rest.ts';
import { RedisServer } from '../support/redis-server.ts';
import { skipReason } from '../support/require.ts';
import { type S3Server, startS3Server } from '../support/s3-server.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';

/** A server of databases, one of which is the index of a fleet. */
export interface IndexServer {
  /** Makes a database with the schema of this version. @returns its URL */
  createIndex(): Promise<string>;
  /** Opens one for the test itself. */
  open(url: string): Promise<IndexStore>;
  /** Deletes every row of one: what is left when an index is lost, and begun anew. */
  empty(url: string): Promise<void>;
  /** As in a crash. */
  down(): Promise<void>;
  up(): Promise<void>;
  stop(): Promise<void>;
}

/** The servers behind the fleets of one file, each reached over a network that can be broken. */
export interface Servers {
  readonly s3: S3Server;
  /** Between the instances and S3. */
  readonly s3Network: TcpProxy;
  readonly index: IndexServer;
  /** Between the instances and the index. */
  readonly indexNetwork: TcpProxy;
  readonly redis: RedisServer;
  /** Between the instances and Redis. */
  readonly redisNetwork: TcpProxy;
  /** The same Redis over HTTP. */
  readonly rest: RedisRest;
  /** How instances reach the locks. */
  readonly locks: LockPlaces;
  /** What the instances are told of the servers: a bucket, an index and a lock prefix that nobody else uses. */
  createPlace(): Promise<Place>;
  /** The same servers over networks of their own: what is broken of the others is whole here. They are closed together. */
  apart(): Promise<Servers>;
  close(): Promise<void>;
}

export interface LockPlaces {
  /** `redis://…` */
  readonly tcp: string;
  readonly rest: { readonly url: string; readonly token: string };
}

/** Where the instances of one fleet keep what they share. */
export interface Place {
  /** Folder of the bucket, without slashes at its ends. */
  readonly prefix: string;
  /** The URL of the index, past the network that can be broken. */
  readonly databaseUrl: string;
  /** Settings of every instance, without those of its locks. */
  readonly settings: Readonly<Record<string, string>>;
}

/** Why the suite cannot run here; null if it can. @throws Error where CI=true */
export function serversMissing(database: 'postgres' | 'mysql' = 'postgres'): string | null {
  return skipReason('redis-server', 'nix') ?? (database === 'postgres' ? postgresMissing() : mysqlMissing());
}

/**
 * Starts all of them. Close them.
 *
 * @param network `direct`: nothing stands between them and the instances, and nothing of it can be broken; the lateness
 *   of a busy test is not theirs. Default `breakable`
 */
export async function startServers(
  database: 'postgres' | 'mysql' = 'postgres',
  network: 'direct' | 'breakable' = 'breakable',
): Promise<Servers> {
  const ends: (() => Promise<unknown>)[] = [];
  const close = async (): Promise<void> => {
    for (const end of ends.splice(0).toReversed()) await end();
  };
  try {
    const s3 = await startS3Server();
    ends.push(() => s3.close());
    const server = database === 'postgres' ? await postgresIndex() : await mysqlIndex();
    const { index } = server;
    ends.push(() => index.stop());
    const redis = await RedisServer.start();
    ends.push(() => redis.stop());
    const rest = await startRedisRest(redis.url());
    ends.push(() => rest.close());
    let restOfInstances: LockPlaces['rest'] = rest;
    if (network === 'direct') {
      const thread = await startRestThread(redis.url());
      ends.push(() => thread.worker.terminate());
      restOfInstances = thread;
    }
    const proxyOf = async (port: number): Promise<TcpProxy> => {
      const proxy = await startTcpProxy(port);
      ends.push(() => proxy.close());
      return proxy;
    };
    const through = (url: string, proxy: TcpProxy): string =>
      network === 'direct' ? url : withPort(url, proxy.port);

    async function overNetworks(): Promise<Servers> {
      const s3Network = await proxyOf(Number(new URL(s3.endpoint).port));
      const indexNetwork = await proxyOf(server.port);
      const redisNetwork = await proxyOf(redis.port);
      return {
        s3,
        s3Network,
        index,
        indexNetwork,
        redis,
        redisNetwork,
        rest,
        locks: { tcp: through(redis.url(), redisNetwork), rest: restOfInstances },
        async createPlace() {
          const prefix = `fleet/${randomUUID()}`;
          const databaseUrl = await index.createIndex();
          return {
            prefix,
            databaseUrl,
            settings: {
              // Parts as small as they may be: all but the small NARs are stored in several.
              SNOWCAP_STORAGE: `s3://${s3.bucket}/${prefix}?endpoint=${through(s3.endpoint, s3Network)}&pathStyle=true&partSize=5M`,
              AWS_ACCESS_KEY_ID: s3.credentials.accessKeyId,
              AWS_SECRET_ACCESS_KEY: s3.credentials.secretAccessKey,
              SNOWCAP_DATABASE: through(databaseUrl, indexNetwork),
              SNOWCAP_LOCK_PREFIX: `${prefix}:`,
            },
          };
        },
        apart: overNetworks,
        close,
      };
    }
    return await overNetworks();
  } catch (error) {
    await close();
    throw error;
  }
}

function withPort(url: string, port: number): string {
  const changed = new URL(url);
  changed.port = String(port);
  return changed.href;
}

/** The bridge to Redis in a thread of its own. */
async function startRestThread(redisUrl: string): Promise<LockPlaces['rest'] & { readonly worker: Worker }> {
  const worker = new Worker(new URL('./rest-thread.ts', import.meta.url), { workerData: redisUrl });
  const { promise, resolve, reject } = Promise.withResolvers<LockPlaces['rest']>();
  worker.once('message', (told: LockPlaces['rest']) => resolve(told));
  worker.once('error', reject);
  return { ...(await promise), worker };
}

/** With rows, in the order in which they may be deleted. */
const TABLES = ['reference_edges', 'paths', 'nars', 'store_hashes'];
const NO_COUNTS = 'update size_counters set present_bytes = 0, present_nars = 0';

const nameIn = (url: string): string => new URL(url).pathname.slice(1);

type StartedIndex = { readonly port: number; readonly index: IndexServer };

async function postgresIndex(): Promise<StartedIndex> {
  const server = await startPostgres();
  const migrations = migrationsFor('postgres');
  return {
    port: server.port,
    index: {
      async createIndex() {
        const url = await server.createDatabase();
        await migratePostgres(url, migrations);
        return url;
      },
      open: (url) => createPostgresStore({ url, poolSize: 2, checkSchema: migrations }),
      async empty(url) {
        for (const table of TABLES) await server.query(`delete from ${table}`, nameIn(url));
        await server.query(NO_COUNTS, nameIn(url));
      },
      down: () => server.down('SIGQUIT'),
      up: () => server.up(),
      stop: () => server.stop(),
    },
  };
}

async function mysqlIndex(): Promise<StartedIndex> {
  const server = await startMysql();
  const migrations = migrationsFor('mysql');
  return {
    port: server.port,
    index: {
      async createIndex() {
        const url = await server.createDatabase();
        await migrateMysql(url, migrations);
        return url;
      },
      open: (url) => createMysqlStore({ url, poolSize: 2, checkSchema: migrations }),
      async empty(url) {
        for (const table of TABLES) await server.query(`delete from ${table}`, nameIn(url));
        await server.query(NO_COUNTS, nameIn(url));
      },
      down: () => server.down(),
      up: () => server.up(),
      stop: () => server.stop(),
    },
  };
}
