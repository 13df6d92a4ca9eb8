import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { encodeNix32 } from '../../src/nix/base32.ts';
import { parseNarInfo } from '../../src/nix/nar-info.ts';

/** Every object in the folder of a file store, by key. */
export async function objectsIn(root: string): Promise<readonly string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .filter((key) => !key.startsWith('.'))
    .sort();
}

/** Unfinished files below the dotted folder of a file store. */
export async function leftoversIn(root: string): Promise<readonly string[]> {
  const place = join(root, '.snowcap');
  const entries = await readdir(place, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

/**
 * What is not whole or not right in the bucket, one sentence each: every NAR must have the FileHash that its key
 * names, and every narinfo a NAR that is as it says (law 2, law 8).
 */
export async function faultsOf(root: string): Promise<readonly string[]> {
  const faults: string[] = [];
  const hashes = new Map<string, { readonly hash: string; readonly size: number }>();
  const keys = await objectsIn(root);
  for (const key of keys.filter((one) => one.startsWith('nar/'))) {
    const bytes = await readFile(join(root, key));
    const hash = encodeNix32(createHash('sha256').update(bytes).digest());
    hashes.set(key, { hash: `sha256:${hash}`, size: bytes.length });
    if (!key.startsWith(`nar/${hash}.nar`)) faults.push(`${key} has FileHash ${hash}`);
  }
  for (const key of keys.filter((one) => one.endsWith('.narinfo'))) {
    const info = parseNarInfo(await readFile(join(root, key), 'utf8'));
    const nar = hashes.get(info.url);
    if (nar === undefined) faults.push(`${key} has no NAR: ${info.url}`);
    else if (nar.hash !== info.fileHash || nar.size !== info.fileSize) faults.push(`${key} has another NAR`);
  }
  return faults;
}
