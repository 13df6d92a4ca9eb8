import { cp, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { reindex } from '../../src/cache/reindex.ts';
import { verifyCache } from '../../src/cache/verify/verify.ts';
import { formatSecretKey } from '../../src/nix/signing-key.ts';
import { faultsOf } from '../support/bucket.ts';
import { runScript, type ScriptEnd } from '../support/checkpoint.ts';
import { baseName, disorderOf, fetchAgain, fetched, pushed } from '../support/evictable.ts';
import { startFaultServer } from '../support/fault-server.ts';
import { shiftedClock } from '../support/replaced.ts';
import { type SignedPath, upstreamKey, upstreamPublicKey } from '../support/signed-path.ts';
import { startTestCache, type TestCache } from '../support/test-cache.ts';

const ENTRY = fileURLToPath(new URL('../support/upkeep-entry.ts', import.meta.url));
const HOUR_MS = 60 * 60 * 1000;

const base = await mkdtemp(join(tmpdir(), 'snowcap-upkeep-crash-'));
const upstream = await startFaultServer();
const publicKey = await upstreamPublicKey();
const secretKey = await upstreamKey();
await writeFile(join(base, 'secret-key'), formatSecretKey(secretKey), { mode: 0o600 });
const paths = await filled();

afterAll(async () => {
  await upstream.close();
  await rm(base, { recursive: true, force: true });
});

async function open(directory: string, clock = shiftedClock()): Promise<TestCache> {
  return await startTestCache({
    upstreams: [upstream.url],
    storage: 'file',
    directory,
    clock,
    database: join(directory, 'index.db'),
    secretKeys: [secretKey],
  });
}

/** Two paths that an upstream has and two that were pushed, the last one referring to the one before. */
async function filled(): Promise<readonly [SignedPath, SignedPath, SignedPath, SignedPath]> {
  const clock = shiftedClock();
  clock.advance(-2 * HOUR_MS);
  const snowcap = await open(join(base, 'filled'), clock);
  await snowcap.cache.startUp();
  const one = await fetched(snowcap, upstream, { name: 'one', seed: 1 });
  const two = await fetched(snowcap, upstream, { name: 'two', seed: 2 });
  const three = await pushed(snowcap, { name: 'three', seed: 3 });
  const four = await pushed(snowcap, { name: 'four', seed: 4, references: [baseName(three)] });
  await snowcap.settled();
  await snowcap.close();
  return [one, two, three, four];
}

interface Operation {
  readonly name: 'reindex' | 'verify' | 'pin' | 'unpin' | 'ban';
  readonly about: SignedPath;
  /** Makes what there is to do. */
  prepare(directory: string): Promise<void>;
  /** After it was killed, and done again. */
  check(snowcap: TestCache): Promise<void>;
  /** Does it again. */
  again(snowcap: TestCache): Promise<unknown>;
}

const [one, two, three, four] = paths;
const repaired = { repair: true, content: true, graceMs: 0 };

const OPERATIONS: readonly Operation[] = [
  {
    name: 'reindex',
    about: four,
    async prepare(directory) {
      const snowcap = await open(directory);
      await snowcap.cache.pins.put({ name: 'pin', storePath: four.storePath, expiresAt: null });
      await snowcap.cache.removals.remove(two.hash, { ban: { reason: 'bad' } });
      await snowcap.close();
      const index = (await readdir(directory)).filter((file) => file.startsWith('index.db'));
      for (const file of index) await rm(join(directory, file));
    },
    again: (snowcap) => reindex(snowcap.services),
    async check({ services }) {
      expect(await services.upkeep.countPaths()).toBe(3);
      expect((await services.upkeep.listPins()).map(({ name, paths }) => [name, paths])).toEqual([
        ['pin', 2],
      ]);
      expect(await services.upkeep.listBans()).toMatchObject([{ hash: two.hash }]);
    },
  },
  {
    name: 'verify',
    about: one,
    async prepare(directory) {
      const snowcap = await open(directory);
      const { storage, metadata, upkeep } = snowcap.services;
      await storage.delete([one.url, `${three.hash}.narinfo`]);
      await storage.put(two.url, { kind: 'bytes', bytes: Buffer.from(two.body).fill(1, 500, 508) });
      await storage.put(`nar/${'0'.repeat(52)}.nar`, { kind: 'bytes', bytes: new Uint8Array(9) });
      // One that its referrer keeps, so that it is to be spared.
      const nar = (await metadata.getNar(three.url))?.nar;
      if (nar !== undefined) await upkeep.markEvicting([nar], Date.now(), { regardless: true });
      await snowcap.close();
    },
    again: (snowcap) => verifyCache(snowcap.services, repaired),
    check: () => Promise.resolve(),
  },
  {
    name: 'pin',
    about: four,
    prepare: () => Promise.resolve(),
    again: (snowcap) => snowcap.cache.pins.put({ name: 'pin', storePath: four.storePath, expiresAt: null }),
    async check({ cache, services }) {
      expect(await cache.pins.get('pin')).toMatchObject({ paths: 2 });
      expect(await services.storage.head('snowcap/pins/pin')).not.toBeNull();
    },
  },
  {
    name: 'unpin',
    about: four,
    async prepare(directory) {
      const snowcap = await open(directory);
      await snowcap.cache.pins.put({ name: 'pin', storePath: four.storePath, expiresAt: null });
      await snowcap.close();
    },
    again: (snowcap) => snowcap.cache.pins.delete('pin'),
    async check({ cache, services }) {
      expect(await cache.pins.list()).toEqual([]);
      expect(await services.storage.head('snowcap/pins/pin')).toBeNull();
    },
  },
  {
    name: 'ban',
    about: one,
    prepare: () => Promise.resolve(),
    again: (snowcap) => snowcap.cache.removals.remove(one.hash, { ban: { reason: 'bad' } }),
    async check({ get, services }) {
      expect((await get(`/${one.hash}.narinfo`)).status).toBe(404);
      expect((await get(`/${one.url}`)).status).toBe(404);
      expect(await services.storage.head(one.url)).toBeNull();
      expect(await services.storage.head(`snowcap/bans/${one.hash}`)).not.toBeNull();
    },
  },
];

async function run(
  directory: string,
  { name, about }: Operation,
  words: readonly string[],
): Promise<ScriptEnd> {
  return await runScript(ENTRY, [name, about.storePath, ...words], {
    environment: {
      SNOWCAP_STORAGE: `file:${join(directory, 'storage')}`,
      SNOWCAP_DATABASE: `sqlite:${join(directory, 'index.db')}`,
      SNOWCAP_SPOOL_DIR: join(directory, 'spool'),
      SNOWCAP_SECRET_KEY_FILE: join(base, 'secret-key'),
      SNOWCAP_UPSTREAMS: upstream.url,
      SNOWCAP_TRUSTED_PUBLIC_KEYS: publicKey,
    },
  });
}

async function prepared(operation: Operation): Promise<string> {
  const directory = join(base, operation.name);
  await cp(join(base, 'filled'), directory, { recursive: true });
  await operation.prepare(directory);
  return directory;
}

/**
 * Each step of it with the last time at which it is taken; those that come directly behind a named one are left out, as
 * nothing is written between, and those within a put, where a crash is the store's own concern.
 */
async function pointsOf(
  operation: Operation,
  directory: string,
): Promise<readonly (readonly [string, number])[]> {
  const copy = `${directory}-recorded`;
  await cp(directory, copy, { recursive: true });
  const { code, stdout, stderr } = await run(copy, operation, ['record']);
  if (code !== 0) throw new Error(stderr);
  const taken = stdout.trimEnd().split('\n').slice(0, -1);
  const isNamed = (step: string | undefined): boolean => step !== undefined && /^[a-z]+:/.test(step);
  const times = new Map<string, number>();
  const points = new Map<string, number>();
  for (const [at, step] of taken.entries()) {
    times.set(step, (times.get(step) ?? 0) + 1);
    if (step.startsWith('file-store:') || (!isNamed(step) && isNamed(taken[at - 1]))) continue;
    points.set(step, times.get(step) ?? 1);
  }
  return [...points];
}

describe.each([...OPERATIONS])('$name that is killed', async (operation) => {
  const directory = await prepared(operation);
  const points = await pointsOf(operation, directory);

  it('takes steps at which it can be killed', () => {
    expect(points.length).toBeGreaterThanOrEqual(2);
  });

  it.each(points)('before %s, time %i: done again and verified, nothing is wrong', async (step, nth) => {
    const copy = `${directory}-${step.replace(/\W/g, '-')}-${nth}`;
    await cp(directory, copy, { recursive: true });
    expect((await run(copy, operation, ['kill', step, String(nth)])).signal).toBe('SIGKILL');
    if (operation.name !== 'verify') expect(await faultsOf(join(copy, 'storage'))).toEqual([]);

    const snowcap = await open(copy);
    try {
      // First only looked at: all that is found can be explained, and is put right.
      await operation.again(snowcap);
      await verifyCache(snowcap.services, repaired);
      await verifyCache(snowcap.services, repaired);
      expect(await verifyCache(snowcap.services, { content: true, graceMs: 0 })).toMatchObject({
        finished: true,
        found: {},
      });
      expect(await disorderOf(snowcap)).toEqual([]);
      await operation.check(snowcap);
      await fetchAgain(snowcap, three);
      await fetchAgain(snowcap, four);
    } finally {
      await snowcap.settled();
      await snowcap.close();
      await rm(copy, { recursive: true });
    }
  });
});
