import { createHash } from 'node:crypto';
import { expect } from 'vitest';
import { encodeNix32 } from '../../src/nix/base32.ts';
import { parseNarInfo } from '../../src/nix/nar-info.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { streamOf } from '../../src/stream/byte-stream.ts';
import type { SignedPath } from '../support/signed-path.ts';
import { until } from '../support/test-cache.ts';
import type { Fleet } from './fleet.ts';
import type { Servers } from './servers.ts';

/** What is there beside NARs and narinfos. */
const OTHERS = new Set(['nix-cache-info', 'snowcap/trusted-keys']);

/**
 * Where the bucket and the index are not as they should be, one sentence each: bodies that are not whole and right,
 * narinfos without their NAR, or of another one, rows and counters that say something else than the bucket, uploads
 * that nobody completed.
 */
async function disagreements(
  fleet: Fleet,
  servers: Pick<Servers, 's3'>,
  paths: readonly SignedPath[],
): Promise<readonly string[]> {
  const { bucket, index, prefix } = fleet;
  const found: string[] = [];
  const sizes = new Map<string, number>();
  for await (const { key, size } of bucket.list('')) sizes.set(key, size);
  const explained = new Set(OTHERS);
  const present = new Map<string, number>();

  for (const path of paths) {
    const row = await index.getPath(path.hash);
    const key = row?.nar.key;
    const narInfoKey = `${path.hash}.narinfo`;
    if (key === undefined || row === null) {
      found.push(`${path.storePath} is not in the index`);
      continue;
    }
    explained.add(key).add(narInfoKey);
    const { state, fileHash, fileSize } = row.nar;
    if (state === 'present') present.set(key, fileSize ?? Number.NaN);
    if (!sizes.has(key)) {
      found.push(`${key} is not in the bucket, and ${state} in the index`);
      if (sizes.has(narInfoKey)) found.push(`${narInfoKey} has no NAR`);
      continue;
    }
    const stored = await digestIn(bucket, key);
    if (stored.hash !== path.fileHash || stored.size !== path.body.length) {
      found.push(`${key} has ${stored.size} bytes, ${stored.hash}`);
    }
    if (state !== 'present') found.push(`${key} is ${state} in the index`);
    if (state === 'present' && (fileHash !== path.fileHash || fileSize !== path.body.length)) {
      found.push(`${key} is another one in the index: ${fileHash}, ${fileSize} bytes`);
    }
    if (!sizes.has(narInfoKey)) {
      found.push(`${narInfoKey} is not in the bucket`);
      continue;
    }
    const narInfo = parseNarInfo(await textIn(bucket, narInfoKey));
    if (narInfo.url !== key || narInfo.fileHash !== stored.hash || narInfo.fileSize !== stored.size) {
      found.push(`${narInfoKey} has another NAR: ${narInfo.url}`);
    }
  }
  for (const key of sizes.keys()) if (!explained.has(key)) found.push(`${key} is nobody's`);
  const totals = await index.totals();
  const bytes = [...present.values()].reduce((sum, size) => sum + size, 0);
  if (totals.presentNars !== present.size || totals.presentBytes !== bytes) {
    found.push(`The counters say ${JSON.stringify(totals)}, not ${present.size} NARs of ${bytes} bytes`);
  }
  for (const key of await servers.s3.openUploads(`${prefix}/`)) found.push(`An upload of ${key} was left`);
  return found;
}

/** The same, awaited: commits go on after the last answer. */
export async function expectAgreement(
  fleet: Fleet,
  servers: Pick<Servers, 's3'>,
  paths: readonly SignedPath[],
): Promise<void> {
  let found: readonly string[] = [];
  await until(
    async () => (found = await disagreements(fleet, servers, paths)).length === 0,
    () => found.slice(0, 10).join('\n'),
    30_000,
  ).catch(() => undefined);
  expect(found).toEqual([]);
}

async function digestIn(
  bucket: BlobStore,
  key: string,
): Promise<{ readonly hash: string; readonly size: number }> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of await bytesOf(bucket, key)) {
    hash.update(chunk);
    size += chunk.length;
  }
  return { hash: `sha256:${encodeNix32(hash.digest())}`, size };
}

async function textIn(bucket: BlobStore, key: string): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of await bytesOf(bucket, key)) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks).toString();
}

async function bytesOf(bucket: BlobStore, key: string) {
  const blob = await bucket.get(key);
  if (blob?.kind !== 'found') throw new Error(`${key} is not in the bucket`);
  return blob.body.kind === 'bytes' ? streamOf(blob.body.bytes) : blob.body.stream;
}
