import { withOwnSignatures } from '../../src/cache/sign.ts';
import { storeNarInfo } from '../../src/cache/store-nar-info.ts';
import type { NarRecord } from '../../src/database/metadata-store.ts';
import type { SignedPath, SignedPathOptions } from './signed-path.ts';
import { publish, signedPath } from './signed-path.ts';
import { download } from './download.ts';
import type { FaultServer } from './fault-server.ts';
import type { TestCache } from './test-cache.ts';

/** A path that an upstream has and that was stored because somebody asked for it. Narinfo and NAR are whole. */
export async function fetched(
  snowcap: TestCache,
  upstream: FaultServer,
  options: SignedPathOptions,
): Promise<SignedPath> {
  const path = await signedPath(options);
  publish(upstream, path);
  await fetchAgain(snowcap, path);
  return path;
}

/** Asks for a path as a client does, narinfo first. @throws Error where it is not whole */
export async function fetchAgain(snowcap: Pick<TestCache, 'url'>, path: SignedPath): Promise<void> {
  const narInfo = await download(`${snowcap.url}/${path.hash}.narinfo`);
  const nar = await download(`${snowcap.url}/${path.url}`);
  const isWhole = narInfo.status === 200 && nar.status === 200 && nar.bytes.equals(path.body);
  if (!isWhole) throw new Error(`${path.storePath} was answered with ${narInfo.status} and ${nar.status}`);
}

/** A path that no upstream has, stored as an upload stores it: the NAR, its narinfo, the rows. */
export async function pushed(
  { services }: Pick<TestCache, 'services'>,
  options: SignedPathOptions,
): Promise<SignedPath> {
  const { storage, metadata, platform } = services;
  const path = await signedPath(options);
  const { url: key, hash, storePath, narHash, fileHash, compression, body } = path;
  await storage.put(key, { kind: 'bytes', bytes: path.body });
  const known = await metadata.recordPath(
    {
      hash,
      storePath,
      narHash,
      narSize: path.nar.length,
      references: options.references ?? [],
      deriver: null,
      ca: null,
      signatures: await withOwnSignatures(
        {
          storePath,
          narHash,
          narSize: path.nar.length,
          references: options.references ?? [],
          signatures: [],
        },
        services.signers,
      ),
      extra: [],
      justification: { kind: 'pushed' },
      origin: null,
      recordedAt: platform.clock.now(),
    },
    { key, compression, fileHash, fileSize: body.length, source: null },
  );
  await storeNarInfo(services, known);
  await metadata.markPresent(key, {
    fileHash,
    fileSize: body.length,
    verification: 'nar',
    at: platform.clock.now(),
  });
  return path;
}

/** The base name of a path, as another one refers to it. */
export function baseName({ storePath }: SignedPath): string {
  return storePath.slice(storePath.lastIndexOf('/') + 1);
}

export async function stateOf(
  { services }: Pick<TestCache, 'services'>,
  { url }: SignedPath,
): Promise<NarRecord['state'] | null> {
  return (await services.metadata.getNar(url))?.nar.state ?? null;
}

/** The states of several paths. */
export async function statesOf(
  snowcap: Pick<TestCache, 'services'>,
  paths: readonly SignedPath[],
): Promise<readonly (NarRecord['state'] | null)[]> {
  return await Promise.all(paths.map((path) => stateOf(snowcap, path)));
}

/** Keys of the NARs and hash parts of the narinfos that the storage has, in order. */
export async function objectsOf({ services }: Pick<TestCache, 'services'>): Promise<{
  readonly nars: readonly string[];
  readonly narInfos: readonly string[];
}> {
  const nars: string[] = [];
  const narInfos: string[] = [];
  for await (const { key } of services.storage.list('')) {
    if (key.startsWith('nar/')) nars.push(key);
    if (key.endsWith('.narinfo')) narInfos.push(key.slice(0, -'.narinfo'.length));
  }
  return { nars, narInfos };
}

/**
 * What is not as it must be when nothing is under way, one sentence each: the index has as present what the storage has
 * and counts just that, and no narinfo is without its NAR (law 8).
 */
export async function disorderOf({ services }: Pick<TestCache, 'services'>): Promise<readonly string[]> {
  const { metadata, upkeep } = services;
  const stored = await objectsOf({ services });
  const nars = await upkeep.listNars(0, 10_000);
  const present = nars.filter(({ state }) => state === 'present');
  const keys = new Set(stored.nars);
  const faults = [
    ...present.filter(({ key }) => !keys.has(key)).map(({ key }) => `${key} is present and not stored`),
    ...nars.filter(({ state }) => state === 'evicting').map(({ key }) => `${key} is still evicting`),
  ];
  const known = new Set(present.map(({ key }) => key));
  for (const key of keys) if (!known.has(key)) faults.push(`${key} is stored and not present`);
  for (const hash of stored.narInfos) {
    const path = await metadata.getPath(hash);
    if (path === null || !keys.has(path.nar.key)) faults.push(`${hash}.narinfo has no NAR`);
  }
  const bytes = present.reduce((sum, { fileSize }) => sum + (fileSize ?? 0), 0);
  const totals = await metadata.totals();
  if (totals.presentBytes !== bytes || totals.presentNars !== present.length) {
    faults.push(`${totals.presentBytes} bytes of ${totals.presentNars} are counted, there are ${bytes}`);
  }
  return faults;
}
