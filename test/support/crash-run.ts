import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { createSqliteStore } from '../../src/database/sqlite/node.ts';
import { faultsOf, leftoversIn, objectsIn } from './bucket.ts';
import { type CrashingProcess, startCrashing } from './crashing-process.ts';
import { type Download, download } from './download.ts';
import { type FaultServer, startFaultServer } from './fault-server.ts';
import { publish, type SignedPath, signedPath, upstreamPublicKey } from './signed-path.ts';
import { until } from './test-cache.ts';

let upstream: FaultServer;
let directories: string;
let sets = 0;

/** Starts the upstream that the functions below use. To be closed by `closeCrashes`. */
export async function openCrashes(): Promise<FaultServer> {
  directories = await mkdtemp(join(tmpdir(), 'snowcap-crash-'));
  upstream = await startFaultServer();
  return upstream;
}

export async function closeCrashes(): Promise<void> {
  await upstream.close();
  await rm(directories, { recursive: true, force: true });
}

/** A new place for storage and index. */
export async function newDirectory(): Promise<string> {
  return await mkdtemp(join(directories, 'run-'));
}

/** @param directory with storage and index */
export async function start(directory: string): Promise<CrashingProcess> {
  return await startCrashing(directory, [upstream.url], [await upstreamPublicKey()]);
}

/** New paths that take every way of a fill: spooled on disk, spooled in memory, verified in the background. */
export async function newPaths(): Promise<readonly SignedPath[]> {
  sets += 1;
  const set = sets;
  const paths = await Promise.all([
    signedPath({ name: `disk-${set}`, seed: set, size: 1_200_000, compression: 'zstd' }),
    signedPath({ name: `memory-${set}`, seed: set + 1000, size: 3000 }),
    signedPath({ name: `later-${set}`, seed: set + 2000, size: 90_000, compression: 'xz', prose: true }),
  ]);
  for (const path of paths) publish(upstream, path);
  return paths;
}

/** Asks for the narinfos and NARs in order; what a process that dies does not answer is null. */
export async function fetchAll(
  { url }: CrashingProcess,
  paths: readonly SignedPath[],
): Promise<readonly (Download | null)[]> {
  const seen: (Download | null)[] = [];
  for (const path of paths) {
    await download(`${url}/${path.hash}.narinfo`).catch(() => null);
    seen.push(await download(`${url}/${path.url}`).catch(() => null));
  }
  return seen;
}

/** Every path was answered, with every byte. */
export function expectWhole(paths: readonly SignedPath[], seen: readonly (Download | null)[]): void {
  for (const [at, path] of paths.entries()) {
    expect(seen[at]).toMatchObject({ status: 200, ended: 'clean' });
    expect(seen[at]?.bytes.equals(path.body)).toBe(true);
  }
}

/** No NAR that the index calls present may be missing, and none may be visible that is not right. */
async function expectNothingPartial(directory: string): Promise<void> {
  const storage = join(directory, 'storage');
  expect(await faultsOf(storage)).toEqual([]);
  const objects = new Set(await objectsIn(storage));
  const index = await createSqliteStore({ path: join(directory, 'index.db') });
  try {
    for (const { nar } of await index.listPaths(0, 1000)) {
      if (nar.state === 'present') expect(objects.has(nar.key), `${nar.key} is present`).toBe(true);
    }
  } finally {
    await index.close();
  }
}

/** Kills a process on its way through these paths. */
export async function crash(
  running: CrashingProcess,
  paths: readonly SignedPath[],
  arm: (running: CrashingProcess) => Promise<void> | void,
): Promise<void> {
  await arm(running);
  const asked = fetchAll(running, paths);
  // Some steps come a moment after the answers.
  await Promise.race([running.gone, asked.then(() => until(running.isGone, () => 'it never died', 5000))]);
  for (const [at, one] of (await asked).entries()) {
    const path = paths[at];
    if (one?.ended === 'clean' && path !== undefined) expectWhole([path], [one]);
  }
}

/** What must hold after a crash, and when the next process has started, which is returned. */
export async function mended(directory: string, paths: readonly SignedPath[]): Promise<CrashingProcess> {
  const storage = join(directory, 'storage');
  await expectNothingPartial(directory);
  const next = await start(directory);
  await until(
    async () => (await leftoversIn(storage)).length === 0,
    () => 'unfinished files are left',
  );
  expectWhole(paths, await fetchAll(next, paths));
  await until(async () => {
    const objects = new Set(await objectsIn(storage));
    return paths.every((path) => objects.has(path.url));
  });
  await expectNothingPartial(directory);
  return next;
}
