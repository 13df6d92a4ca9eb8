import { mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { FindingKind, VerifyReport } from '../../src/cache/verify/report.ts';
import { verifyCache, type VerifyOptions } from '../../src/cache/verify/verify.ts';
import { StorageError } from '../../src/storage/blob-store.ts';
import { formatPublicKey, generateSecretKey } from '../../src/nix/signing-key.ts';
import { baseName, fetchAgain, fetched, objectsOf, pushed, stateOf } from '../support/evictable.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { shiftedClock, withMethods } from '../support/replaced.ts';
import { type SignedPath, signedPath, upstreamPublicKey } from '../support/signed-path.ts';
import { startTestCache, type TestCache, type TestCacheOptions } from '../support/test-cache.ts';

const DAY_MS = 24 * 60 * 60 * 1000;

let upstream: FaultServer;
let snowcap: TestCache;
let clock: ReturnType<typeof shiftedClock>;

async function start(options: TestCacheOptions = {}): Promise<void> {
  snowcap = await startTestCache({ upstreams: [upstream.url], clock, ...options });
  await snowcap.cache.startUp();
}

beforeEach(async () => {
  upstream = await startFaultServer();
  clock = shiftedClock();
  await start();
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

function verify(options: VerifyOptions = {}): Promise<VerifyReport> {
  return verifyCache(snowcap.services, options);
}

async function put(key: string, bytes: Uint8Array): Promise<void> {
  await snowcap.services.storage.put(key, { kind: 'bytes', bytes });
}

async function remove(...keys: readonly string[]): Promise<void> {
  await snowcap.services.storage.delete(keys);
}

/** A kind of damage: how it is done, and what is found of it. */
type Damage = readonly [kind: FindingKind, damage: (path: SignedPath) => Promise<unknown>, content?: true];

const DAMAGES: readonly Damage[] = [
  ['NAR missing', ({ url }) => remove(url)],
  ['wrong size', ({ url, body }) => put(url, body.subarray(0, body.length - 8))],
  ['wrong content', ({ url, body }) => put(url, Buffer.from(body).fill(7, 500, 508)), true],
  ['narinfo missing', ({ hash }) => remove(`${hash}.narinfo`)],
  ['narinfo differs', ({ hash, narInfo }) => put(`${hash}.narinfo`, Buffer.from(narInfo))],
  // Larger than any narinfo.
  ['narinfo differs', ({ hash }) => put(`${hash}.narinfo`, Buffer.alloc(4 * 2 ** 20 + 1, 'x\n'))],
  [
    'NAR not in the index',
    async ({ url }) => {
      const generation = (await snowcap.services.metadata.getNar(url))?.nar.generation ?? 0;
      await snowcap.services.metadata.markAbsent(url, generation);
    },
  ],
  [
    'narinfo without NAR',
    async ({ url }) => {
      const generation = (await snowcap.services.metadata.getNar(url))?.nar.generation ?? 0;
      await remove(url);
      await snowcap.services.metadata.markAbsent(url, generation);
    },
  ],
  ['narinfo not in the index', ({ hash }) => snowcap.services.upkeep.removePath(hash)],
  [
    'unclaimed NAR',
    async ({ hash, url }) => {
      await remove(`${hash}.narinfo`);
      const { metadata, upkeep } = snowcap.services;
      const generation = (await metadata.getNar(url))?.nar.generation ?? 0;
      await metadata.markAbsent(url, generation);
      await upkeep.removePath(hash);
    },
  ],
  [
    'quarantined NAR',
    async ({ hash, url }) => {
      await snowcap.services.metadata.markQuarantined(url, 'wrong');
      await remove(`${hash}.narinfo`);
    },
  ],
  [
    'stale listing',
    async ({ hash, nar }) => {
      await put(`${hash}.ls`, nar);
      await remove(`${hash}.narinfo`);
      await snowcap.services.upkeep.removePath(hash);
    },
  ],
  [
    'unfinished eviction',
    async ({ url }) => {
      const nar = (await snowcap.services.metadata.getNar(url))?.nar;
      if (nar !== undefined) await snowcap.services.upkeep.markEvicting([nar], clock.now());
    },
  ],
];

describe('a verification', () => {
  it('finds nothing in a cache that is as it should be', async () => {
    const one = await fetched(snowcap, upstream, { name: 'one', seed: 1, compression: 'zstd', prose: true });
    await fetched(snowcap, upstream, { name: 'two', seed: 2, compression: 'xz' });
    await pushed(snowcap, { name: 'three', seed: 3, references: [baseName(one)] });
    await snowcap.settled();
    clock.advance(2 * DAY_MS);
    const report = await verify({ content: true });
    expect(report).toMatchObject({ finished: true, remaining: 0, found: {} });
    expect(report.checked).toMatchObject({ nars: 3, bodies: 3 });
    expect(report.checked.objects).toBeGreaterThanOrEqual(7);
  });

  it('finishes all that an eviction has left when it died, although one lock stands for them', async () => {
    const seeds = [1, 2, 3];
    const paths = await Promise.all(
      seeds.map((seed) => fetched(snowcap, upstream, { name: `evicting-${seed}`, seed })),
    );
    await snowcap.settled();
    const { metadata, upkeep } = snowcap.services;
    const nars = await Promise.all(paths.map(async ({ url }) => (await metadata.getNar(url))?.nar));
    await upkeep.markEvicting(
      nars.filter((nar) => nar !== undefined),
      clock.now(),
    );
    expect((await verify({ repair: true })).found).toEqual({ 'unfinished eviction': 3 });
    expect(await metadata.totals()).toEqual({ presentBytes: 0, presentNars: 0 });
  });

  it.each(DAMAGES.map(([kind, damage, content = false]) => ({ kind, damage, content })))(
    'finds "$kind", and repairs it',
    async ({ kind, damage, content }) => {
      const path = await fetched(snowcap, upstream, { name: 'one', seed: 1 });
      const other = await fetched(snowcap, upstream, { name: 'other', seed: 2 });
      await snowcap.settled();
      await damage(path);
      clock.advance(2 * DAY_MS);
      const options = { content };
      const found = await verify(options);
      expect(found.found).toMatchObject({ [kind]: 1 });
      expect(found.remaining).toBeGreaterThan(0);
      expect(await verify(options)).toEqual(found);

      const repaired = await verify({ ...options, repair: true });
      expect(repaired).toMatchObject({ finished: true, remaining: 0 });
      expect(repaired.findings.every((finding) => finding.repaired)).toBe(true);
      // What one repair brings up, as a counter, the next one sees to.
      await verify({ ...options, repair: true });
      expect(await verify({ content: true })).toMatchObject({ remaining: 0, found: {} });
      expect(await stateOf(snowcap, other)).toBe('present');
      if (kind !== 'quarantined NAR') await fetchAgain(snowcap, path);
      await snowcap.settled();
    },
  );

  it('finds all kinds of damage at once, and repairs them in two runs', async () => {
    const paths: SignedPath[] = [];
    for (const [at] of DAMAGES.entries()) {
      paths.push(await fetched(snowcap, upstream, { name: `path-${at}`, seed: at + 1 }));
    }
    await snowcap.settled();
    for (const [at, [, damage]] of DAMAGES.entries()) {
      const path = paths[at];
      if (path !== undefined) await damage(path);
    }
    clock.advance(2 * DAY_MS);
    const { found } = await verify({ content: true });
    expect(Object.keys(found).sort()).toEqual([...new Set(DAMAGES.map(([kind]) => kind))].sort());
    await verify({ content: true, repair: true });
    await verify({ content: true, repair: true });
    expect(await verify({ content: true })).toMatchObject({ remaining: 0, found: {} });
    const { nars, narInfos } = await objectsOf(snowcap);
    expect(nars).toHaveLength((await snowcap.services.metadata.totals()).presentNars);
    expect(narInfos).toHaveLength(nars.length);
  });

  it('tells of a pushed path whose reference is gone, which nobody can repair', async () => {
    const two = await pushed(snowcap, { name: 'two', seed: 2 });
    const three = await pushed(snowcap, { name: 'three', seed: 3, references: [baseName(two)] });
    await remove(two.url);
    clock.advance(2 * DAY_MS);
    const report = await verify({ repair: true });
    expect(report.found).toEqual({ 'NAR missing': 1, 'dangling reference': 1 });
    expect(report.remaining).toBe(1);
    expect(report.findings.at(-1)).toMatchObject({ about: three.storePath, repaired: false });
  });

  it('leaves a body that is wrong in itself quarantined, and one that was damaged to be fetched again', async () => {
    const damaged = await pushed(snowcap, { name: 'damaged', seed: 2 });
    await put(damaged.url, Buffer.from(damaged.body).fill(7, 500, 508));
    const report = await verify({ content: true, repair: true });
    expect(report.found).toMatchObject({ 'wrong content': 1 });
    // It may be pushed again.
    expect(await stateOf(snowcap, damaged)).toBe('absent');
    expect(await snowcap.services.storage.head(damaged.url)).toBeNull();
  });

  it('leaves alone what is young, and what is nobody’s', async () => {
    await put('README.txt', Buffer.from('mine'));
    const path = await signedPath({ name: 'coming', seed: 5 });
    await put(path.url, path.body);
    await put(`${path.hash}.narinfo`, Buffer.from(path.narInfo));
    await put('nar/notes.txt', Buffer.from('mine'));
    await put('photos/one.jpg', Buffer.from('mine'));
    expect((await verify()).found).toEqual({ 'foreign object': 2 });
    clock.advance(2 * DAY_MS);
    const report = await verify({ repair: true });
    expect(report.found).toEqual({ 'foreign object': 3, 'narinfo not in the index': 1 });
    expect(report.remaining).toBe(0);
    expect(report.findings.map(({ about }) => about).sort()).toEqual(
      ['README.txt', `${path.hash}.narinfo`, 'nar/notes.txt', 'photos/'].sort(),
    );
    for (const key of ['README.txt', 'nar/notes.txt', 'photos/one.jpg']) {
      expect(await snowcap.services.storage.head(key)).not.toBeNull();
    }
    expect(await stateOf(snowcap, path)).toBe('present');
  });

  it('removes no body that a narinfo of the bucket may name: one that is not trusted, or came meanwhile', async () => {
    const late = await signedPath({ name: 'late', seed: 5 });
    const foreign = await signedPath({ name: 'foreign', seed: 6, key: await generateSecretKey('other-1') });
    for (const { url, body } of [late, foreign]) await put(url, body);
    await put(`${foreign.hash}.narinfo`, Buffer.from(foreign.narInfo));
    const orphan = await signedPath({ name: 'orphan', seed: 8 });
    await put(orphan.url, orphan.body);
    clock.advance(2 * DAY_MS);
    // An earlier repair was ended when it was done with the narinfos.
    const sums = { checked: {}, found: {}, remaining: 0 };
    const kind = {
      storage: 'memory:',
      repair: true,
      content: false,
      removeUntrusted: false,
      graceMs: DAY_MS,
    };
    const mark = { phase: 'bodies', after: 'nar/', ...kind, left: 0, ofRows: sums, ...sums };
    await snowcap.services.upkeep.setMark('verify', JSON.stringify(mark));
    await put(`${late.hash}.narinfo`, Buffer.from(late.narInfo));

    const dry = await verify();
    const report = await verify({ repair: true });
    expect(Object.keys(report.found).sort()).toEqual(
      ['narinfo not in the index', 'narinfo not trusted', 'unclaimed NAR'].sort(),
    );
    for (const kind of ['narinfo not trusted', 'unclaimed NAR'])
      expect(Object.keys(dry.found)).toContain(kind);
    for (const { url } of [late, foreign, orphan]) {
      expect(await snowcap.services.storage.head(url)).not.toBeNull();
    }
    expect(await stateOf(snowcap, late)).toBe('present');

    clock.advance(2 * DAY_MS);
    await verify({ repair: true, removeUntrusted: true });
    await verify({ repair: true, removeUntrusted: true });
    expect((await objectsOf(snowcap)).nars).toEqual([late.url]);
    expect((await objectsOf(snowcap)).narInfos).toEqual([late.hash]);
  });

  it('tells of what cannot be read, looks at the rest, and gives up where nothing can be', async () => {
    const one = await fetched(snowcap, upstream, { name: 'one', seed: 1 });
    const two = await fetched(snowcap, upstream, { name: 'two', seed: 2 });
    await snowcap.settled();
    const unknown = await pushed(snowcap, { name: 'unknown', seed: 3 });
    await snowcap.services.upkeep.removePath(unknown.hash);
    const generation = (await snowcap.services.metadata.getNar(unknown.url))?.nar.generation ?? 0;
    await snowcap.services.metadata.markAbsent(unknown.url, generation);
    await remove(`${two.hash}.narinfo`);
    clock.advance(2 * DAY_MS);
    let isBroken = (key: string): boolean => key === one.url || key === `${unknown.hash}.narinfo`;
    const { storage } = snowcap.services;
    const services = {
      ...snowcap.services,
      storage: withMethods(storage, {
        get: (key, options) =>
          isBroken(key) ? Promise.reject(new StorageError(`Cannot read ${key}`)) : storage.get(key, options),
      }),
    };
    const report = await verifyCache(services, { content: true, repair: true });
    expect(report).toMatchObject({ finished: true, remaining: 3 });
    // What the narinfo that cannot be read names is left too.
    expect(report.found).toEqual({ unreadable: 2, 'narinfo missing': 1, 'unclaimed NAR': 1 });
    expect(report.findings.find(({ about }) => about === one.url)?.detail).toBe(`Cannot read ${one.url}`);
    for (const { url } of [one, two, unknown]) expect(await storage.head(url)).not.toBeNull();

    for (let seed = 4; seed < 14; seed += 1) await fetched(snowcap, upstream, { name: `more-${seed}`, seed });
    await snowcap.settled();
    isBroken = () => true;
    await expect(verifyCache(services, { content: true })).rejects.toThrow(StorageError);
  });

  it('forgets no path whose key is not trusted just now, whatever it repairs', async () => {
    const obtainable = await fetched(snowcap, upstream, { name: 'one', seed: 1 });
    const foreign = await generateSecretKey('other-1');
    const adopted = await signedPath({ name: 'two', seed: 2, key: foreign });
    await put(adopted.url, adopted.body);
    await put(`${adopted.hash}.narinfo`, Buffer.from(adopted.narInfo));
    const other = formatPublicKey(foreign.publicKey);
    const trusting = { upstreams: [upstream.url], clock, sharing: snowcap };
    const all = await startTestCache({
      ...trusting,
      trustedPublicKeys: [await upstreamPublicKey(), other],
    });
    clock.advance(2 * DAY_MS);
    await verifyCache(all.services, { repair: true });
    expect(await stateOf(all, adopted)).toBe('present');
    await all.close();

    const none = await startTestCache({ ...trusting, trustedPublicKeys: [] });
    for (let run = 0; run < 2; run += 1) {
      await verifyCache(none.services, { repair: true, content: true, graceMs: 0, restart: true });
    }
    await none.close();
    for (const path of [obtainable, adopted]) {
      expect(await stateOf(snowcap, path)).toBe('present');
      expect(await snowcap.services.storage.head(path.url)).not.toBeNull();
      expect(await snowcap.services.metadata.getPath(path.hash)).not.toBeNull();
    }
  });

  it('checks the signatures of the rows, where it reads everything', async () => {
    const path = await fetched(snowcap, upstream, { name: 'one', seed: 1 });
    await snowcap.settled();
    const { metadata } = snowcap.services;
    const known = await metadata.getPath(path.hash);
    if (known === null) throw new Error('it is not known');
    const { revision, signatures, justification } = known.path;
    const forged = signatures.map(
      (text) => `${text.split(':', 1)[0]}:${Buffer.alloc(64).toString('base64')}`,
    );
    await metadata.rejustifyPath(path.hash, revision, { signatures: forged, justification });
    expect((await verify({ content: true })).found).toMatchObject({ 'narinfo not trusted': 1 });
    expect(await verify({ content: true, repair: true, restart: true })).toMatchObject({ remaining: 0 });
    await fetchAgain(snowcap, path);
    await snowcap.settled();
    expect(await verify({ content: true })).toMatchObject({ found: {} });
  });

  it('puts counters right that have drifted', async () => {
    const path = await fetched(snowcap, upstream, { name: 'one', seed: 1 });
    await snowcap.settled();
    const { metadata, upkeep } = snowcap.services;
    const before = await metadata.totals();
    let drifted = true;
    const wrong = { presentBytes: before.presentBytes + 5, presentNars: before.presentNars };
    const services = {
      ...snowcap.services,
      upkeep: Object.assign(Object.create(upkeep) as typeof upkeep, {
        recountTotals: async ({ repair }: { readonly repair: boolean }) => {
          const totals = drifted
            ? { counted: wrong, actual: before }
            : await upkeep.recountTotals({ repair });
          if (repair) drifted = false;
          return totals;
        },
      }),
    };
    expect(await verifyCache(services)).toMatchObject({ found: { 'wrong totals': 1 }, remaining: 1 });
    expect(await verifyCache(services, { repair: true })).toMatchObject({ remaining: 0 });
    expect(await verifyCache(services)).toMatchObject({ found: {} });
    expect(await stateOf(snowcap, path)).toBe('present');
  });

  it('finds what interrupted writes have left for a day, and removes it where it repairs', async () => {
    await snowcap.close();
    await start({ storage: 'file' });
    const left = join(snowcap.directory, 'storage/.snowcap/tmp/other-host-1-0123456789abcdef');
    await mkdir(left);
    await writeFile(join(left, '0'), Buffer.alloc(1234));
    expect(await verify()).toMatchObject({ found: {}, remaining: 0 });
    clock.advance(DAY_MS + 1000);
    const detail = '1 left by interrupted writes, 1234 bytes in all';
    expect(await verify()).toMatchObject({
      found: { 'unfinished writes': 1 },
      remaining: 1,
      findings: [{ kind: 'unfinished writes', detail, repaired: false }],
    });
    expect((await stat(left)).isDirectory()).toBe(true);
    expect(await verify({ repair: true })).toMatchObject({ found: { 'unfinished writes': 1 }, remaining: 0 });
    await expect(stat(left)).rejects.toThrow(/ENOENT/);
    expect(await verify()).toMatchObject({ found: {} });
  });

  it('goes on where it was interrupted, with what it has found, and a repair begins anew', async () => {
    const paths: SignedPath[] = [];
    for (let nth = 0; nth < 250; nth += 1) {
      paths.push(await pushed(snowcap, { name: `n-${nth}`, seed: nth, size: 50 }));
    }
    await remove(`${paths[0]?.hash}.narinfo`);
    const once = async (options: VerifyOptions): Promise<VerifyReport> => {
      const stop = new AbortController();
      return await verify({ ...options, signal: stop.signal, onProgress: () => stop.abort() });
    };
    expect(await once({})).toMatchObject({ finished: false, remaining: 1, checked: { nars: 200 } });
    const before = snowcap.operations['storage.head'] ?? 0;
    expect(await verify()).toMatchObject({ finished: true, remaining: 1, checked: { nars: 250 } });
    expect((snowcap.operations['storage.head'] ?? 0) - before).toBeLessThan(100);

    await once({});
    expect(await verify({ repair: true })).toMatchObject({
      finished: true,
      remaining: 0,
      checked: { nars: 250 },
    });
    expect(await verify()).toMatchObject({ found: {} });
    await snowcap.services.upkeep.setMark('verify', 'no JSON');
    expect(await verify()).toMatchObject({ finished: true, found: {} });
  });

  it('goes on only with the same flags over the same storage, and counts no fault twice', async () => {
    for (let nth = 0; nth < 201; nth += 1) await pushed(snowcap, { name: `n-${nth}`, seed: nth, size: 50 });
    const heads = async (options: VerifyOptions, services = snowcap.services): Promise<number> => {
      const before = snowcap.operations['storage.head'] ?? 0;
      expect(await verifyCache(services, options)).toMatchObject({ finished: true, remaining: 0 });
      return (snowcap.operations['storage.head'] ?? 0) - before;
    };
    const interrupt = async (phase: string, options: VerifyOptions = {}): Promise<void> => {
      const stop = new AbortController();
      const onProgress: VerifyOptions['onProgress'] = (_, at) => {
        if (at === phase) stop.abort();
      };
      await verify({ ...options, signal: stop.signal, onProgress });
    };
    await interrupt('rows');
    expect(await heads({})).toBeLessThan(100);
    const moved = withMethods(snowcap.services.storage, { description: 'file:/another' });
    for (const [options, services] of [
      [{ graceMs: 0 }],
      [{ removeUntrusted: true }],
      [{}, { ...snowcap.services, storage: moved }],
    ] as const) {
      await interrupt('rows');
      expect(await heads(options, services)).toBeGreaterThan(200);
    }

    const foreign = await signedPath({ name: 'foreign', seed: 6, key: await generateSecretKey('other-1') });
    await put(`${foreign.hash}.narinfo`, Buffer.from(foreign.narInfo));
    clock.advance(2 * DAY_MS);
    await interrupt('bodies', { repair: true });
    expect(await verify({ repair: true })).toMatchObject({
      remaining: 1,
      checked: { nars: 201, objects: 406 },
    });
  });

  it('ends unfinished, with its report, where it is interrupted in the middle of a page', async () => {
    for (let nth = 0; nth < 4; nth += 1) await pushed(snowcap, { name: `n-${nth}`, seed: nth, size: 5000 });
    const stop = new AbortController();
    const verifying = verify({ content: true, bytesPerSecond: 2000, concurrency: 1, signal: stop.signal });
    setTimeout(() => stop.abort(new Error('Interrupted')), 50);
    expect(await verifying).toMatchObject({ finished: false });
  });

  it('takes nothing for damage that happens while it looks', async () => {
    const paths: SignedPath[] = [];
    for (let nth = 0; nth < 20; nth += 1) {
      paths.push(await fetched(snowcap, upstream, { name: `n-${nth}`, seed: nth + 1 }));
    }
    await snowcap.settled();
    const settings = { ...snowcap.services.settings, maxSize: 5000, lowWater: 0 };
    const busy = await startTestCache({
      upstreams: [upstream.url],
      clock,
      sharing: snowcap,
      settings,
    });
    clock.advance(60 * 60 * 1000);
    const results = await Promise.all([
      verify({ content: true, concurrency: 2 }),
      busy.cache.evict(),
      ...Array.from({ length: 5 }, () => verify({ restart: true, concurrency: 1 })),
    ]);
    await busy.close();
    for (const result of results) if ('found' in result) expect(result.found).toEqual({});
    expect(await verify({ content: true, restart: true })).toMatchObject({ found: {} });
  });

  it('reads no more bytes a second than it may', async () => {
    for (let nth = 0; nth < 3; nth += 1) {
      await fetched(snowcap, upstream, { name: `n-${nth}`, seed: nth + 1, size: 10_000 });
    }
    await snowcap.settled();
    const begun = performance.now();
    await verify({ content: true, bytesPerSecond: 50_000 });
    expect(performance.now() - begun).toBeGreaterThan(350);
  });
});
