import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { REBUILDING_MARK } from '../../src/cache/marks.ts';
import { storeBanMirror, storePinMirror } from '../../src/cache/mirrors.ts';
import { reindex, type ReindexOptions, type ReindexReport } from '../../src/cache/reindex.ts';
import { createSqliteStore } from '../../src/database/sqlite/node.ts';
import { generateSecretKey } from '../../src/nix/signing-key.ts';
import { StorageError } from '../../src/storage/blob-store.ts';
import { download } from '../support/download.ts';
import { baseName, fetched, pushed, stateOf } from '../support/evictable.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { withMethods } from '../support/replaced.ts';
import { publish, type SignedPath, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache, type TestCacheOptions } from '../support/test-cache.ts';

const KEY = await generateSecretKey('snowcap.test-1');

let upstream: FaultServer;
let snowcap: TestCache;
/** Another instance over the same storage, whose index is empty. */
let bare: TestCache;

beforeEach(async () => {
  upstream = await startFaultServer();
});

afterEach(async () => {
  await bare.close();
  await snowcap.close();
  await upstream.close();
});

async function start(options: TestCacheOptions = {}): Promise<void> {
  snowcap = await startTestCache({ upstreams: [upstream.url], secretKeys: [KEY], ...options });
  await snowcap.cache.startUp();
}

/** The database is lost: an empty one takes its place. */
async function loseIndex(options: TestCacheOptions = {}): Promise<void> {
  const path = join(snowcap.directory, 'another.db');
  const index = await createSqliteStore({ path });
  const { storage, locks } = snowcap.drivers;
  bare = await startTestCache({
    upstreams: [upstream.url],
    secretKeys: [KEY],
    ...options,
    sharing: { ...snowcap, drivers: { storage, locks, metadata: index, upkeep: index.upkeep } },
  });
}

async function rebuilt(options: ReindexOptions = {}): Promise<ReindexReport> {
  return await reindex(bare.services, options);
}

async function isServed({ url }: TestCache, path: SignedPath): Promise<boolean> {
  const narInfo = await download(`${url}/${path.hash}.narinfo`);
  const nar = await download(`${url}/${path.url}`);
  return narInfo.status === 200 && nar.status === 200 && nar.bytes.equals(path.body);
}

describe('law 6: an index that was lost is rebuilt from the bucket', () => {
  it('with all that was fetched and pushed, its pins and its bans', async () => {
    await start();
    const one = await fetched(snowcap, upstream, { name: 'one', seed: 1 });
    const two = await pushed(snowcap, { name: 'two', seed: 2 });
    const three = await pushed(snowcap, { name: 'three', seed: 3, references: [baseName(two)] });
    const banned = await signedPath({ name: 'banned', seed: 4 });
    await snowcap.settled();
    const { storage } = snowcap.services;
    const pin = {
      name: 'three',
      storePath: three.storePath,
      hash: three.hash,
      createdAt: 5,
      expiresAt: null,
    };
    await storePinMirror(storage, pin);
    await storeBanMirror(storage, {
      hash: banned.hash,
      storePath: banned.storePath,
      reason: 'bad',
      at: 6,
      narKey: null,
    });

    await loseIndex();
    const report = await rebuilt();
    expect(report).toMatchObject({ narInfos: 3, adopted: 3, confirmed: 1, refused: 0, pins: 1, bans: 1 });
    expect(report.bytes).toBe(one.body.length + two.body.length + three.body.length);
    const { metadata, upkeep } = bare.services;
    expect(await metadata.totals()).toEqual({ presentBytes: report.bytes, presentNars: 3 });
    expect(await metadata.references(three.hash)).toEqual([two.hash]);
    expect(await upkeep.listPins()).toMatchObject([{ ...pin, paths: 2, unknownPaths: 0 }]);
    expect(await upkeep.listBans()).toMatchObject([{ hash: banned.hash, reason: 'bad' }]);
    expect(await upkeep.getMark(REBUILDING_MARK)).toBeNull();

    // What an upstream has counts as such; what nobody else has counts as pushed.
    const page = { after: null, accessedBefore: Number.MAX_SAFE_INTEGER, now: 0, limit: 9 };
    const pushedKeys = (await upkeep.listEvictable({ ...page, pushed: true })).map(({ nar }) => nar.key);
    expect(pushedKeys.sort()).toEqual([two.url, three.url].sort());
    expect((await metadata.getNar(one.url))?.nar.source).toMatchObject({ upstream: upstream.url });
    for (const path of [one, two, three]) expect(await isServed(bare, path)).toBe(true);
    await bare.settled();
  });

  it('looks up what the closure of a pin refers to, where the bucket has only a part of it', async () => {
    await start();
    const leaf = await fetched(snowcap, upstream, { name: 'leaf', seed: 1 });
    const root = await signedPath({ name: 'root', seed: 2, references: [baseName(leaf)] });
    publish(upstream, root);
    const { storePath } = root;
    await snowcap.cache.pins.put({ name: 'kept', storePath, expiresAt: null });
    await loseIndex();
    await upstream.down();
    expect(await rebuilt()).toMatchObject({ narInfos: 1, pins: 1 });
    // Kept as far as it is known: the root alone.
    expect(await bare.services.upkeep.listPins()).toMatchObject([{ name: 'kept', paths: 1 }]);
    await upstream.up();
    await rebuilt({ confirm: false });
    expect(await bare.services.upkeep.listPins()).toMatchObject([{ name: 'kept', paths: 1 }]);
    await rebuilt();
    expect(await bare.services.upkeep.listPins()).toMatchObject([
      { name: 'kept', paths: 2, unknownPaths: 0, storePath },
    ]);
    expect(await stateOf(bare, leaf)).toBe('present');
  });

  it('twice is the same as once, and adds what came since', async () => {
    await start();
    const one = await fetched(snowcap, upstream, { name: 'one', seed: 1 });
    await loseIndex();
    await rebuilt();
    await pushed(snowcap, { name: 'two', seed: 2 });
    expect(await rebuilt()).toMatchObject({ narInfos: 2, adopted: 1, known: 1 });
    expect((await bare.services.metadata.totals()).presentNars).toBe(2);
    expect(await stateOf(bare, one)).toBe('present');
  });

  it('goes on where it was interrupted, and nothing is evicted until it is complete', async () => {
    await start({ settings: { maxSize: 1000, lowWater: 0 } });
    for (let nth = 0; nth < 450; nth += 1) await pushed(snowcap, { name: `n-${nth}`, seed: 1, size: 100 });
    await loseIndex({ settings: { maxSize: 10, lowWater: 0, evictPushedAfterMs: 0 } });
    const stop = new AbortController();
    const pages: number[] = [];
    const onProgress = ({ narInfos }: ReindexReport): void => {
      pages.push(narInfos);
      stop.abort(new Error('enough'));
    };
    await expect(rebuilt({ confirm: false, signal: stop.signal, onProgress })).rejects.toThrow('enough');
    expect(pages).toEqual([200]);
    expect(await bare.services.upkeep.countPaths()).toBe(200);
    expect(await bare.cache.evict()).toMatchObject({ outcome: 'rebuilding' });
    expect(await rebuilt({ confirm: false })).toMatchObject({ narInfos: 450, adopted: 1, known: 449 });
    expect(await bare.services.upkeep.countPaths()).toBe(450);
    expect((await bare.cache.evict()).outcome).not.toBe('rebuilding');
  });

  it('forgets nothing of an interrupted run that was refused, and takes it where that is told now', async () => {
    await start();
    const { storage } = snowcap.services;
    const unsigned = await signedPath({ name: 'unsigned', seed: 2, key: null });
    await storage.put(unsigned.url, { kind: 'bytes', bytes: unsigned.body });
    await storage.put(`${unsigned.hash}.narinfo`, { kind: 'bytes', bytes: Buffer.from(unsigned.narInfo) });
    for (let nth = 0; nth < 220; nth += 1) {
      const key = `${String(nth).padStart(32, 'z')}.narinfo`;
      await storage.put(key, { kind: 'bytes', bytes: Buffer.from('no narinfo') });
    }
    await loseIndex();
    const interrupted = async (): Promise<void> => {
      const stop = new AbortController();
      const run = rebuilt({ signal: stop.signal, onProgress: () => stop.abort(new Error('enough')) });
      await expect(run).rejects.toThrow('enough');
    };
    await interrupted();
    expect(await rebuilt()).toMatchObject({ narInfos: 221, refused: 221 });
    await interrupted();
    expect(await rebuilt({ allowUnsigned: true })).toMatchObject({ narInfos: 221, refused: 220, adopted: 1 });
  });

  it('takes the rest where a narinfo cannot be read, and gives up where none can', async () => {
    await start();
    const paths: SignedPath[] = [];
    for (let seed = 0; seed < 12; seed += 1) paths.push(await pushed(snowcap, { name: `n-${seed}`, seed }));
    await loseIndex();
    const { storage } = bare.services;
    let isBroken = (key: string): boolean => key === `${paths[3]?.hash}.narinfo`;
    const services = {
      ...bare.services,
      storage: withMethods(storage, {
        get: (key, options) =>
          isBroken(key) ? Promise.reject(new StorageError(`Cannot read ${key}`)) : storage.get(key, options),
      }),
    };
    const report = await reindex(services, { confirm: false });
    expect(report).toMatchObject({ narInfos: 12, adopted: 11, refused: 1 });
    expect(report.reasons).toEqual([[paths[3]?.hash, `Cannot read ${paths[3]?.hash}.narinfo`]]);
    isBroken = (key) => key.endsWith('.narinfo');
    await expect(reindex(services, { confirm: false })).rejects.toThrow(StorageError);
  });

  it('takes over what is signed by a trusted key, and nothing that is not, nor without its NAR', async () => {
    await start();
    const signed = await signedPath({ name: 'signed', seed: 1, compression: 'xz' });
    const unsigned = await signedPath({ name: 'unsigned', seed: 2, key: null });
    const stranger = await signedPath({ name: 'stranger', seed: 3, key: await generateSecretKey('other-1') });
    const without = await signedPath({ name: 'without', seed: 4 });
    const short = await signedPath({ name: 'short', seed: 5 });
    const { storage } = snowcap.services;
    const put = async (key: string, bytes: Uint8Array): Promise<void> => {
      await storage.put(key, { kind: 'bytes', bytes });
    };
    for (const { hash, narInfo, url, body } of [signed, unsigned, stranger, without, short]) {
      await put(`${hash}.narinfo`, Buffer.from(narInfo));
      await put(url, body);
    }
    await storage.delete([without.url]);
    await put(short.url, short.body.subarray(1));
    await put(`${'0'.repeat(32)}.narinfo`, Buffer.from('no narinfo'));
    await put(`${'1'.repeat(32)}.narinfo`, Buffer.from(signed.narInfo));
    // Larger than any narinfo.
    await put(`${'2'.repeat(32)}.narinfo`, Buffer.alloc(4 * 2 ** 20 + 1, 'x\n'));

    await loseIndex();
    const report = await rebuilt();
    expect(report).toMatchObject({ narInfos: 8, adopted: 1, refused: 5, withoutNar: 2 });
    const reasons = new Map(report.reasons);
    expect(reasons.get(unsigned.hash)).toContain('no signature');
    expect(reasons.get(stranger.hash)).toContain('no valid signature by a trusted key');
    expect(reasons.get(without.hash)).toContain('is not stored');
    expect(reasons.get(short.hash)).toContain(`has ${short.body.length - 1} bytes`);
    expect(reasons.get('0'.repeat(32))).toContain('is no narinfo');
    expect(reasons.get('1'.repeat(32))).toContain('is of another path');
    expect(reasons.get('2'.repeat(32))).toContain('is no narinfo');
    expect(await isServed(bare, signed)).toBe(true);
    await bare.settled();
    // Our signature stands beside the other in the bucket too.
    const stored = await storage.get(`${signed.hash}.narinfo`);
    const text = stored?.kind === 'found' && stored.body.kind === 'bytes' ? stored.body.bytes : null;
    expect(Buffer.from(text ?? []).toString()).toMatch(/Sig: upstream\.test-1:.*\nSig: snowcap\.test-1:/);

    expect(await rebuilt({ allowUnsigned: true })).toMatchObject({ adopted: 2, known: 1 });
    expect((await bare.services.metadata.getPath(unsigned.hash))?.path.justification).toEqual({
      kind: 'pushed',
    });
  });

  it('does not take our own signature for trust where the bucket may be of a withdrawn key', async () => {
    await start();
    const path = await fetched(snowcap, upstream, { name: 'one', seed: 1 });
    await snowcap.settled();
    await loseIndex({ trustedPublicKeys: [] });
    expect(await rebuilt()).toMatchObject({ adopted: 0, refused: 1 });
    expect((await download(`${bare.url}/${path.hash}.narinfo`)).status).not.toBe(200);
  });

  it('nor where an instance with the empty index was started before: it has checked nothing', async () => {
    await start();
    const path = await fetched(snowcap, upstream, { name: 'one', seed: 1 });
    const own = await pushed(snowcap, { name: 'two', seed: 2 });
    await snowcap.settled();
    await loseIndex({ trustedPublicKeys: [] });
    await bare.cache.startUp();
    expect(await bare.cache.isPrepared()).toBe(true);
    expect(await rebuilt()).toMatchObject({ adopted: 1, refused: 1 });
    expect(await bare.services.metadata.getPath(path.hash)).toBeNull();
    expect(await stateOf(bare, own)).toBe('present');
    // It is checked as a whole when nothing is refused.
    const { storage } = bare.services;
    const note = async (): Promise<string> => {
      const stored = await storage.get('snowcap/trusted-keys');
      const bytes = stored?.kind === 'found' && stored.body.kind === 'bytes' ? stored.body.bytes : [];
      return Buffer.from(bytes).toString();
    };
    expect(await note()).toContain('the index did not know');
    await storage.delete([`${path.hash}.narinfo`]);
    expect(await rebuilt()).toMatchObject({ refused: 0 });
    expect(await note()).not.toContain('the index did not know');
  });
});
