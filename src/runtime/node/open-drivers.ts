import { readFile } from 'node:fs/promises';
import type { Config } from '../../config/config.ts';
import { createDiskSpool } from '../../spool/disk.ts';
import { createMemorySpool } from '../../spool/memory.ts';
import { parseNetrc } from '../../upstream/netrc.ts';
import { createUndiciTransport } from '../../upstream/undici-transport.ts';
import type { Drivers } from '../services.ts';
import { openDatabase } from './open-database.ts';
import { openLocks } from './open-locks.ts';
import { openStorage } from './open-storage.ts';
import { loadSecretKeys } from './secret-keys.ts';
import type { NodePlatform } from './node-platform.ts';
import { createThreadedDigest } from './threaded-digest.ts';

/** The drivers that a configuration asks for, opened. */
export type OpenDrivers = Drivers & {
  /** Closes all of them, the index last. */
  close(): Promise<void>;
};

/** @throws Error where one cannot be opened, with what to do about it; what was opened before is closed again */
export async function openDrivers(
  config: Config,
  platform: NodePlatform,
  version: string,
): Promise<OpenDrivers> {
  const open: { close(): Promise<void> }[] = [];
  const kept = <T extends { close(): Promise<void> }>(driver: T): T => {
    open.unshift(driver);
    return driver;
  };
  const close = async (): Promise<void> => {
    for (const driver of open) await driver.close();
  };
  const checkpoint = platform.checkpoint === undefined ? {} : { checkpoint: platform.checkpoint };
  try {
    const secretKeys = await loadSecretKeys(config, platform.logger);
    const netrc = config.netrcFile === null ? null : parseNetrc(await readFile(config.netrcFile, 'utf8'));
    const caBundle = config.caFile === null ? null : await readFile(config.caFile, 'utf8');
    const { digestNar } = kept(createThreadedDigest());
    const database = kept(await openDatabase(config, platform));
    return {
      runtime: 'node',
      platform,
      digestNar,
      secretKeys,
      credentials: (url) => netrc?.lookup(url.hostname) ?? null,
      metadata: database,
      upkeep: database.upkeep,
      storage: kept(await openStorage(config, platform)),
      memorySpool: kept(createMemorySpool()),
      spool: kept(await createDiskSpool({ directory: config.spoolDir, ...checkpoint })),
      locks: kept(await openLocks(config, platform, database.leases)),
      transport: kept(
        createUndiciTransport({
          userAgent: `snowcap/${version}`,
          proxy: config.proxy,
          connectTimeoutMs: config.upstreamTimeouts.connectMs,
          ...(caBundle === null ? {} : { caBundle }),
        }),
      ),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}
