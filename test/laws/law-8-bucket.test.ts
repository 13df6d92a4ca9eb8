import { execFileSync } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { servedKey } from '../support/replaced.ts';
import { publish, sha256, type SignedPath, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache } from '../support/test-cache.ts';
import { narInfoField, narInfoLines, UPSTREAM_COMPRESSIONS } from '../support/upstream-cache.ts';

/** Where the contents of the one file begin in a NAR that holds nothing else: after six strings and a length. */
const CONTENTS_AT = 96;

let upstream: FaultServer;
let snowcap: TestCache;
let bucket: string;

beforeEach(async () => {
  upstream = await startFaultServer();
  snowcap = await startTestCache({ upstreams: [upstream.url], storage: 'file' });
  bucket = join(snowcap.directory, 'storage');
  await snowcap.cache.startUp();
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

async function filled(path: SignedPath): Promise<string> {
  publish(upstream, path);
  const key = await servedKey(snowcap, path);
  expect((await download(`${snowcap.url}/${key}`)).bytes.equals(path.body)).toBe(true);
  return key;
}

function unpacked(body: Buffer, compression: string): Buffer {
  switch (compression) {
    case 'xz':
    case 'bzip2':
      return execFileSync(compression, ['-dc'], { input: body, maxBuffer: 2 ** 28 });
    case 'gzip':
      return gunzipSync(body);
    case 'br':
      return brotliDecompressSync(body);
    case 'zstd':
      return zstdDecompressSync(body);
    case 'none':
      return body;
    default:
      throw new Error(`Nix knows no compression ${compression}`);
  }
}

/** Checks each narinfo of the bucket against its NAR, with nothing of Snowcap. @returns the store paths */
async function checkBucket(): Promise<readonly string[]> {
  const storePaths: string[] = [];
  const urls = new Set<string>();
  const files = (await readdir(bucket, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(bucket.length + 1))
    .filter((file) => !file.startsWith('.'));
  for (const file of files.filter((name) => name.endsWith('.narinfo'))) {
    const text = await readFile(join(bucket, file), 'utf8');
    expect(text.endsWith('\n')).toBe(true);
    const lines = narInfoLines(text);
    const storePath = narInfoField(lines, 'StorePath');
    expect(file).toBe(`${storePath.slice('/nix/store/'.length, '/nix/store/'.length + 32)}.narinfo`);
    const url = narInfoField(lines, 'URL');
    expect(url).toMatch(/^nar\/[0-9a-z.-]+$/);
    urls.add(url);
    const body = await readFile(join(bucket, url));
    expect(narInfoField(lines, 'FileHash')).toBe(sha256(body));
    expect(narInfoField(lines, 'FileSize')).toBe(String(body.length));
    const nar = unpacked(body, narInfoField(lines, 'Compression'));
    expect(narInfoField(lines, 'NarHash')).toBe(sha256(nar));
    expect(narInfoField(lines, 'NarSize')).toBe(String(nar.length));
    expect(text).toMatch(/^References: .*$/m);
    expect(lines.filter(([name]) => name === 'Sig').map(([, value]) => value.split(':')[0])).toEqual([
      'upstream.test-1',
      'snowcap.test-1',
    ]);
    storePaths.push(storePath);
  }
  expect(await readFile(join(bucket, 'nix-cache-info'), 'utf8')).toMatch(
    /^StoreDir: \/nix\/store\nWantMassQuery: 1\nPriority: 30\n$/,
  );
  // Nothing lies there that Nix would not expect, but for what Snowcap keeps under its own name.
  const known = /^(nix-cache-info|[0-9a-z]{32}\.(narinfo|ls)|snowcap\/.*)$/;
  expect(files.filter((file) => !known.test(file) && !urls.has(file))).toEqual([]);
  return storePaths.sort();
}

describe('law 8: the bucket is itself a valid binary cache', () => {
  it('after fills in every compression, from upstreams of every kind', async () => {
    const kinds = [
      {},
      { fileFields: false },
      { url: ({ hash }: { readonly hash: string }) => `nar/opaque-${hash}.nar` },
      {
        fileFields: false,
        url: ({ hash }: { readonly hash: string }) => `nar/${hash}.nar?hash=${hash}`,
      },
    ];
    const paths: SignedPath[] = [];
    for (const compression of UPSTREAM_COMPRESSIONS) {
      for (const [kind, options] of kinds.entries()) {
        const name = `${compression}-${kind}`;
        paths.push(
          await signedPath({
            ...options,
            compression,
            name,
            seed: paths.length + 1,
            size: 20_000,
            prose: true,
            references: paths.slice(-2).map(({ storePath }) => storePath.slice('/nix/store/'.length)),
          }),
        );
      }
    }
    for (const path of paths) await filled(path);
    await snowcap.settled();
    expect(await checkBucket()).toEqual(paths.map(({ storePath }) => storePath).sort());

    // Another Snowcap, as a plain client of the folder behind any web server.
    const folder = await startFaultServer();
    folder.static(bucket);
    await upstream.down();
    const reader = await startTestCache({
      upstreams: [folder.url],
      trustedPublicKeys: snowcap.cache.publicKeys,
      storage: 'file',
    });
    for (const path of paths) {
      const key = await servedKey(reader, path);
      expect((await download(`${reader.url}/${key}`)).bytes.equals(path.body)).toBe(true);
    }
    await reader.close();
    await folder.close();
  });

  it('with a narinfo that was asked for after its NAR was there, and with two for one NAR', async () => {
    const one = await signedPath({ name: 'one', size: 5_000 });
    const two = await signedPath({ name: 'two', size: 5_000 });
    expect(two.url).toBe(one.url);
    await filled(one);
    await snowcap.settled();
    await filled(two);
    await snowcap.settled();
    expect(await checkBucket()).toEqual([one.storePath, two.storePath].sort());
  });

  it('with listings beside their narinfos', async () => {
    const path = await signedPath({ size: 5_000 });
    publish(upstream, path);
    expect((await snowcap.get(`/${path.hash}.ls`)).status).toBe(200);
    await snowcap.settled();
    expect(await checkBucket()).toEqual([path.storePath]);
    expect(JSON.parse(await readFile(join(bucket, `${path.hash}.ls`), 'utf8'))).toEqual({
      version: 1,
      root: { type: 'regular', size: 5_000, narOffset: CONTENTS_AT },
    });
  });

  it('holds no narinfo whose NAR was not stored', async () => {
    const known = await signedPath({ name: 'known' });
    publish(upstream, known);
    await servedKey(snowcap, known);
    const wrong = await signedPath({ name: 'wrong', seed: 2 });
    publish(upstream, wrong, { flipBitAt: 500 });
    expect((await snowcap.get(`/${await servedKey(snowcap, wrong)}`)).status).toBe(502);
    await snowcap.settled();
    expect(await checkBucket()).toEqual([]);
  });
});
