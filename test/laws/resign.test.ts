import { cp, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KeyInUseError, resign, type ResignReport } from '../../src/cache/resign.ts';
import { verifyCache } from '../../src/cache/verify/verify.ts';
import { fingerprint, parseNarInfo } from '../../src/nix/nar-info.ts';
import {
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  parsePublicKey,
  verifySignature,
} from '../../src/nix/signing-key.ts';
import { StorageError } from '../../src/storage/blob-store.ts';
import { recordSteps, runScript } from '../support/checkpoint.ts';
import { download } from '../support/download.ts';
import { fetched, pushed } from '../support/evictable.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { withMethods } from '../support/replaced.ts';
import { type SignedPath, upstreamPublicKey } from '../support/signed-path.ts';
import { startTestCache, type TestCache, type TestCacheOptions } from '../support/test-cache.ts';

const CRASHING = new URL('../support/resign-writer.ts', import.meta.url).pathname;
const OLD = await generateSecretKey('snowcap.test-1');
const NEW = await generateSecretKey('snowcap.test-2');

let upstream: FaultServer;
let snowcap: TestCache;
const others: TestCache[] = [];

beforeEach(async () => {
  upstream = await startFaultServer();
});

afterEach(async () => {
  for (const other of others.splice(0)) await other.close();
  await snowcap.close();
  await upstream.close();
});

async function start(options: TestCacheOptions = {}): Promise<void> {
  snowcap = await startTestCache({ upstreams: [upstream.url], secretKeys: [OLD], ...options });
  await snowcap.cache.startUp();
}

/** The same cache after its keys were changed. */
async function restart(options: TestCacheOptions): Promise<TestCache> {
  const other = await startTestCache({ upstreams: [upstream.url], ...options, sharing: snowcap });
  others.push(other);
  return other;
}

/** The names of the keys whose signatures stand in the narinfo of the bucket, each of them valid, in order. */
async function signersInBucket(path: SignedPath): Promise<readonly string[]> {
  const stored = await snowcap.services.storage.get(`${path.hash}.narinfo`);
  if (stored?.kind !== 'found' || stored.body.kind !== 'bytes') return [];
  const info = parseNarInfo(new TextDecoder().decode(stored.body.bytes));
  const known = [OLD.publicKey, NEW.publicKey, parsePublicKey(await upstreamPublicKey())];
  const keys = new Map(known.map((key) => [formatPublicKey(key), key]));
  for (const signature of info.signatures) {
    expect(await verifySignature(fingerprint(info), signature, keys)).not.toBeNull();
  }
  return info.signatures.map((signature) => signature.split(':', 1)[0] ?? '');
}

/** The same of what is answered. */
async function signersInAnswer({ url }: TestCache, path: SignedPath): Promise<readonly string[]> {
  const { status, bytes } = await download(`${url}/${path.hash}.narinfo`);
  expect(status).toBe(200);
  return parseNarInfo(bytes.toString()).signatures.map((signature) => signature.split(':', 1)[0] ?? '');
}

const NOTHING: Partial<ResignReport> = { resigned: 0, narInfos: 0, contended: 0 };

describe('a signing key is rotated', () => {
  it('new paths have the signatures of both keys, older ones after snowcap resign; upstreams keep theirs', async () => {
    await start();
    const one = await fetched(snowcap, upstream, { name: 'one', seed: 1 });
    const two = await pushed(snowcap, { name: 'two', seed: 2 });
    await snowcap.settled();
    const rotated = await restart({ secretKeys: [NEW, OLD] });
    const three = await fetched(rotated, upstream, { name: 'three', seed: 3 });
    await rotated.settled();
    const all = ['upstream.test-1', 'snowcap.test-2', 'snowcap.test-1'];
    expect(await signersInAnswer(rotated, three)).toEqual(all);
    expect(await signersInAnswer(rotated, one)).toEqual(['upstream.test-1', 'snowcap.test-1']);

    const dry = await resign(rotated.services, { dryRun: true });
    expect(dry).toMatchObject({ paths: 3, resigned: 2, narInfos: 2 });
    expect(await signersInBucket(one)).toEqual(['upstream.test-1', 'snowcap.test-1']);
    expect(await resign(rotated.services)).toEqual(dry);
    for (const path of [one, three]) {
      expect(await signersInAnswer(rotated, path)).toEqual(all);
      expect(await signersInBucket(path)).toEqual(all);
    }
    expect(await signersInBucket(two)).toEqual(all.slice(1));
    expect(await resign(rotated.services)).toMatchObject({ paths: 3, ...NOTHING });
    expect(await verifyCache(rotated.services, { graceMs: 0 })).toMatchObject({ remaining: 0 });
  });

  it('the old one stays where it signs no more, and goes only when it is dropped by name', async () => {
    await start();
    const one = await fetched(snowcap, upstream, { name: 'one', seed: 1 });
    await snowcap.settled();
    const rotated = await restart({ secretKeys: [NEW] });
    expect(await resign(rotated.services)).toMatchObject({ resigned: 1 });
    expect(await signersInBucket(one)).toEqual(['upstream.test-1', 'snowcap.test-1', 'snowcap.test-2']);
    expect(await resign(rotated.services, { drop: ['snowcap.test-1'] })).toMatchObject({ resigned: 1 });
    expect(await signersInBucket(one)).toEqual(['upstream.test-1', 'snowcap.test-2']);
    expect(await signersInAnswer(rotated, one)).toEqual(['upstream.test-1', 'snowcap.test-2']);
  });

  it('no key is dropped that signs or is trusted', async () => {
    await start();
    for (const drop of ['snowcap.test-1', 'upstream.test-1']) {
      await expect(resign(snowcap.services, { drop: [drop] })).rejects.toThrow(KeyInUseError);
    }
  });
});

describe('snowcap resign', () => {
  it('signs nothing that no trusted key vouches for any more, and writes no narinfo of it', async () => {
    await start();
    const one = await fetched(snowcap, upstream, { name: 'one', seed: 1 });
    await snowcap.settled();
    const withdrawn = await restart({ secretKeys: [NEW, OLD], trustedPublicKeys: [] });
    const before = await signersInBucket(one);
    expect(await resign(withdrawn.services)).toMatchObject({ paths: 1, untrusted: 1, ...NOTHING });
    expect(await signersInBucket(one)).toEqual(before);
    const known = await withdrawn.services.metadata.getPath(one.hash);
    expect(known?.path.signatures.some((signature) => signature.startsWith('snowcap.test-2'))).toBe(false);
  });

  it('writes no narinfo of a NAR that is not stored, and one that is missing beside its NAR', async () => {
    await start();
    const gone = await fetched(snowcap, upstream, { name: 'gone', seed: 1 });
    const bare = await fetched(snowcap, upstream, { name: 'bare', seed: 2 });
    await snowcap.settled();
    const { storage } = snowcap.services;
    await storage.delete([`${gone.hash}.narinfo`, gone.url, `${bare.hash}.narinfo`]);
    const rotated = await restart({ secretKeys: [NEW, OLD] });
    expect(await resign(rotated.services)).toMatchObject({ resigned: 2, narInfos: 1 });
    expect(await signersInBucket(gone)).toEqual([]);
    expect(await signersInBucket(bare)).toContain('snowcap.test-2');
  });

  it('writes a narinfo anew that cannot be read, or is larger than any', async () => {
    await start();
    const one = await pushed(snowcap, { name: 'one', seed: 1 });
    const two = await pushed(snowcap, { name: 'two', seed: 2 });
    const { storage } = snowcap.services;
    await storage.put(`${two.hash}.narinfo`, { kind: 'bytes', bytes: Buffer.alloc(4 * 2 ** 20 + 1) });
    const services = {
      ...snowcap.services,
      storage: withMethods(storage, {
        get: (key, options) =>
          key === `${one.hash}.narinfo`
            ? Promise.reject(new StorageError(`Cannot read ${key}`))
            : storage.get(key, options),
      }),
    };
    await expect(resign(services, { dryRun: true })).rejects.toThrow(StorageError);
    expect(await resign(services)).toMatchObject({ resigned: 0, narInfos: 2 });
    for (const path of [one, two]) expect(await signersInBucket(path)).toEqual(['snowcap.test-1']);
  });

  it('takes up what another instance writes at the same time', async () => {
    await start();
    const one = await fetched(snowcap, upstream, { name: 'one', seed: 1 });
    await snowcap.settled();
    let turns = 2;
    const rotated = await restart({
      secretKeys: [NEW, OLD],
      replace: ({ metadata }) => ({
        metadata: withMethods(metadata, {
          async rejustifyPath(hash, revision, change) {
            turns -= 1;
            const now = (await metadata.getPath(hash))?.path;
            if (turns >= 0 && now !== undefined) await metadata.rejustifyPath(hash, now.revision, now);
            return await metadata.rejustifyPath(hash, revision, change);
          },
        }),
      }),
    });
    expect(await resign(rotated.services)).toMatchObject({ resigned: 1, contended: 0 });
    expect(await signersInBucket(one)).toContain('snowcap.test-2');
    turns = 1000;
    const third = await restart({ secretKeys: [await generateSecretKey('snowcap.test-3')] });
    expect(await resign(third.services)).toMatchObject({ resigned: 1 });
    expect(await resign(rotated.services)).toMatchObject({ contended: 1 });
  });

  it('walks over all pages', async () => {
    await start();
    for (let number = 0; number < 201; number += 1) {
      await pushed(snowcap, { name: `n-${number}`, seed: 1, size: 100 });
    }
    const rotated = await restart({ secretKeys: [NEW, OLD] });
    const pages: number[] = [];
    const onProgress = ({ paths }: ResignReport): void => void pages.push(paths);
    expect(await resign(rotated.services, { onProgress })).toMatchObject({ resigned: 201, narInfos: 201 });
    expect(pages).toEqual([200, 201]);
  });

  it('is completed after a kill at any of its steps', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'snowcap-resign-'));
    const keys = [NEW, OLD];
    const place = (name: string): TestCacheOptions => ({
      directory: join(directory, name),
      storage: 'file',
      database: join(directory, name, 'index.db'),
    });
    await mkdir(join(directory, 'original'));
    await start({ ...place('original') });
    const paths = [
      await pushed(snowcap, { name: 'one', seed: 1 }),
      await pushed(snowcap, { name: 'two', seed: 2 }),
    ];
    await snowcap.close();
    const { steps, checkpoint } = recordSteps();
    await cp(join(directory, 'original'), join(directory, 'recorded'), { recursive: true });
    await start({ ...place('recorded'), secretKeys: keys, checkpoint });
    const begin = steps.length;
    await resign(snowcap.services, { concurrency: 1 });
    const names = new Set(steps.slice(begin));
    expect([...names]).toEqual(expect.arrayContaining(['index.rejustifyPath', 'resign:store-narinfo']));
    for (const step of names) {
      const name = step.replace(':', '-');
      await snowcap.close();
      await cp(join(directory, 'original'), join(directory, name), { recursive: true });
      const texts = keys.map((key) => formatSecretKey(key));
      const end = await runScript(CRASHING, [join(directory, name), step, '1', ...texts]);
      expect(end, `${step}: ${end.stderr}`).toMatchObject({ signal: 'SIGKILL' });
      await start({ ...place(name), secretKeys: keys });
      await resign(snowcap.services);
      for (const path of paths) {
        expect(await signersInBucket(path), step).toEqual(['snowcap.test-2', 'snowcap.test-1']);
      }
      expect(await verifyCache(snowcap.services, { graceMs: 0 }), step).toMatchObject({ remaining: 0 });
    }
    await rm(directory, { recursive: true });
  });
});
