import type { Config } from '../../config/config.ts';
import { createMemorySpool } from '../../spool/memory.ts';
import { createFetchTransport } from '../../upstream/fetch-transport.ts';
import type { Drivers } from '../services.ts';
import type { WorkerEnv } from './bindings.ts';
import { openDatabase } from './open-database.ts';
import { openLocks } from './open-locks.ts';
import { openStorage } from './open-storage.ts';
import type { WorkersPlatform } from './workers-platform.ts';

/** The drivers of one request. */
export type OpenDrivers = Omit<Drivers, 'secretKeys'> & {
  /** Closes their connections. */
  close(): Promise<void>;
};

/** Makes no connection yet: they come with the first use, and one request never uses those of another. */
export async function openDrivers(
  config: Config,
  env: WorkerEnv,
  platform: WorkersPlatform,
  version: string,
): Promise<OpenDrivers> {
  const [storage, metadata] = await Promise.all([openStorage(config, env), openDatabase(config, env)]);
  const locks = openLocks(config, metadata.leases, platform);
  const transport = createFetchTransport({ userAgent: `snowcap/${version}` });
  return {
    runtime: 'workers',
    platform,
    storage,
    metadata,
    upkeep: metadata.upkeep,
    locks,
    transport,
    memorySpool: createMemorySpool(),
    spool: null,
    credentials: () => null,
    async close() {
      for (const driver of [locks, storage, metadata, transport]) await driver.close();
    },
  };
}
