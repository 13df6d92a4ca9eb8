import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { formatSecretKey } from '../../src/nix/signing-key.ts';
import { faultsOf } from '../support/bucket.ts';
import { runScript, type ScriptEnd } from '../support/checkpoint.ts';
import { baseName, disorderOf, fetchAgain, fetched, pushed, statesOf } from '../support/evictable.ts';
import { startFaultServer } from '../support/fault-server.ts';
import { shiftedClock } from '../support/replaced.ts';
import { type SignedPath, upstreamKey, upstreamPublicKey } from '../support/signed-path.ts';
import { startTestCache, type TestCache, type TestCacheOptions } from '../support/test-cache.ts';

const ENTRY = fileURLToPath(new URL('../support/upkeep-entry.ts', import.meta.url));
const SIZE = 10_000;
/** Four bodies of ten fit, below the low-water mark. */
const SETTINGS = { maxSize: 4.5 * SIZE, lowWater: 1, evictPushedAfterMs: 0 };
const HOUR_MS = 60 * 60 * 1000;

const base = await mkdtemp(join(tmpdir(), 'snowcap-evict-crash-'));
const upstream = await startFaultServer();
const publicKey = await upstreamPublicKey();
await writeFile(join(base, 'secret-key'), formatSecretKey(await upstreamKey()), { mode: 0o600 });
const { given, own } = await filled(join(base, 'filled'));
const taken = await stepsOfAnEviction();

afterAll(async () => {
  await upstream.close();
  await rm(base, { recursive: true, force: true });
});

async function open(directory: string, options: TestCacheOptions = {}): Promise<TestCache> {
  return await startTestCache({
    upstreams: [upstream.url],
    storage: 'file',
    directory,
    database: join(directory, 'index.db'),
    platform: { schedule: () => Promise.resolve() },
    ...options,
    settings: { ...SETTINGS, ...options.settings },
  });
}

/** A cache with five bodies that an upstream has, and five that were pushed, the later ones referring to the earlier ones. */
async function filled(
  directory: string,
): Promise<{ readonly given: readonly SignedPath[]; readonly own: readonly SignedPath[] }> {
  const clock = shiftedClock();
  clock.advance(-2 * HOUR_MS);
  const snowcap = await open(directory, { clock });
  const [fromUpstream, ownPaths]: [SignedPath[], SignedPath[]] = [[], []];
  for (let nth = 0; nth < 5; nth += 1) {
    fromUpstream.push(await fetched(snowcap, upstream, { name: `given-${nth}`, seed: nth, size: SIZE }));
    const below = ownPaths.at(-1);
    const references = below === undefined ? [] : [baseName(below)];
    ownPaths.push(await pushed(snowcap, { name: `own-${nth}`, seed: 50 + nth, size: SIZE, references }));
  }
  await snowcap.settled();
  const { storePath, hash } = ownPaths[4] ?? { storePath: '', hash: '' };
  const pin = { name: 'old', storePath, hash, createdAt: 1, expiresAt: 2 };
  await snowcap.services.upkeep.putPin(pin);
  await snowcap.services.storage.put('snowcap/pins/old', { kind: 'bytes', bytes: new Uint8Array(2) });
  await snowcap.close();
  return { given: fromUpstream, own: ownPaths };
}

async function evictIn(directory: string, words: readonly string[]): Promise<ScriptEnd> {
  return await runScript(ENTRY, ['evict', '', ...words], {
    environment: {
      SNOWCAP_STORAGE: `file:${join(directory, 'storage')}`,
      SNOWCAP_DATABASE: `sqlite:${join(directory, 'index.db')}`,
      SNOWCAP_SPOOL_DIR: join(directory, 'spool'),
      SNOWCAP_SECRET_KEY_FILE: join(base, 'secret-key'),
      SNOWCAP_UPSTREAMS: upstream.url,
      SNOWCAP_TRUSTED_PUBLIC_KEYS: publicKey,
      SNOWCAP_MAX_SIZE: String(SETTINGS.maxSize),
      SNOWCAP_EVICTION_LOW_WATER: `${SETTINGS.lowWater * 100}%`,
      SNOWCAP_EVICT_PUSHED: 'always',
    },
  });
}

async function copy(name: string): Promise<string> {
  const directory = join(base, name);
  await cp(join(base, 'filled'), directory, { recursive: true });
  return directory;
}

async function stepsOfAnEviction(): Promise<readonly string[]> {
  const { code, stdout, stderr } = await evictIn(await copy('recorded'), ['record']);
  expect([code, stderr]).toEqual([0, '']);
  const lines = stdout.trimEnd().split('\n');
  expect(lines.at(-1)).toBe('reached');
  return lines.slice(0, -1);
}

/** Each step with the time at which it is taken, but for those directly behind another: nothing is written between. */
function points(): readonly (readonly [step: string, occurrence: number])[] {
  const seen = new Map<string, number>();
  return taken
    .map((step) => {
      const occurrence = (seen.get(step) ?? 0) + 1;
      seen.set(step, occurrence);
      return [step, occurrence] as const;
    })
    .filter(([step], at) => !step.startsWith('file-store:') && taken[at - 1]?.startsWith('evict:') !== true);
}

describe('an eviction that is killed', () => {
  it('writes in these steps, and is killed before each of them', () => {
    expect([...new Set(taken)].sort()).toEqual(
      expect.arrayContaining([
        'evict:delete-narinfos',
        'evict:delete-nars',
        'evict:delete-pins',
        'evict:finish',
        'evict:mark',
        'evict:prune',
        'evict:spare',
        'file-store:delete',
        'index.finishEvicting',
        'index.markEvicting',
        'index.prunePaths',
        'index.refreshPins',
        'index.setMark',
        'index.spareEvicting',
      ]),
    );
    // Those that can be had again first, then the pushed ones from the top of their references down.
    expect(taken.filter((step) => step === 'evict:mark').length).toBeGreaterThan(1);
  });

  it.each(points())(
    'before %s, time %i: leaves no narinfo without its NAR, and the next one goes on',
    async (step, nth) => {
      const directory = await copy(`${step.replace(/\W/g, '-')}-${nth}`);
      expect((await evictIn(directory, ['kill', step, String(nth)])).signal).toBe('SIGKILL');
      expect(await faultsOf(join(directory, 'storage'))).toEqual([]);

      const snowcap = await open(directory);
      try {
        const report = await snowcap.cache.evict();
        expect(['reached', 'within_limit']).toContain(report.outcome);
        expect(report.after.presentBytes).toBeLessThanOrEqual(SETTINGS.maxSize);
        expect(await disorderOf(snowcap)).toEqual([]);
        expect(await snowcap.services.upkeep.listDangling(0, 100)).toEqual([]);
        expect(await statesOf(snowcap, given)).toEqual(given.map(() => 'absent'));
        // Closed under references: what refers to others went before them.
        const states = await statesOf(snowcap, own);
        expect(states).toEqual(
          states.toSorted((one, other) => (one === other ? 0 : one === 'present' ? -1 : 1)),
        );
        expect(states.filter((state) => state === 'present')).toHaveLength(4);
        for (const path of own.slice(0, 4)) await fetchAgain(snowcap, path);
        for (const path of given.slice(0, 2)) await fetchAgain(snowcap, path);
        await snowcap.settled();
        expect(await disorderOf(snowcap)).toEqual([]);
      } finally {
        await snowcap.close();
        await rm(directory, { recursive: true });
      }
    },
  );
});
