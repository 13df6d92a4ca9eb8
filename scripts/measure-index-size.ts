/**
 * Prints how many bytes the index takes for each path, for `docs/d1.md`: 50,000 paths with 10 references each, with
 * names and hashes as long as real ones. Run by hand: `node scripts/measure-index-size.ts`.
 */
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { encodeNix32 } from '../src/nix/base32.ts';
import type { NewNar, NewPath } from '../src/database/metadata-store.ts';
import { createSqliteStore } from '../src/database/sqlite/node.ts';

const PATHS = 50_000;
const REFERENCES = 10;

/** As many characters of nix32 as a hash of so many bytes has, the same for the same number. */
function hash(bytes: number, number: number): string {
  const raw = new Uint8Array(bytes);
  // Spread over the whole hash, as real ones are: else the indexes would be filled in order.
  for (let at = 0, state = (number * 2_654_435_761) >>> 0; at < bytes; at++) {
    state = (Math.imul(state ^ (state >>> 15), 2_246_822_519) + at) >>> 0;
    raw[at] = state >>> 24;
  }
  return encodeNix32(raw);
}

const baseName = (number: number): string => `${hash(20, number)}-python3.13-package-${number}-1.2.3`;

function pathOf(number: number): NewPath {
  return {
    hash: hash(20, number),
    storePath: `/nix/store/${baseName(number)}`,
    narHash: `sha256:${hash(32, number)}`,
    narSize: 1_000_000 + number,
    references: Array.from({ length: REFERENCES }, (_, at) => baseName((number * 31 + at * 7919) % PATHS)),
    deriver: `${hash(20, number + PATHS)}-python3.13-package-${number}-1.2.3.drv`,
    ca: null,
    // Upstream's and our own.
    signatures: ['cache.nixos.org-1', 'cache.example.org-1'].map((name) => `${name}:${'A'.repeat(86)}==`),
    extra: [],
    justification: { kind: 'key', publicKey: `cache.nixos.org-1:${'A'.repeat(43)}=` },
    origin: 'https://cache.nixos.org',
    recordedAt: 1_795_000_000_000,
  };
}

function narOf(number: number): NewNar {
  const key = `nar/${hash(32, number + 2 * PATHS)}.nar.xz`;
  return {
    key,
    compression: 'xz',
    fileHash: `sha256:${hash(32, number + 2 * PATHS)}`,
    fileSize: 300_000 + number,
    source: { upstream: 'https://cache.nixos.org', url: key },
  };
}

const directory = await mkdtemp(join(tmpdir(), 'snowcap-size-'));
try {
  const path = join(directory, 'index.db');
  const store = await createSqliteStore({ path });
  for (let number = 0; number < PATHS; number++) {
    const nar = narOf(number);
    await store.recordPath(pathOf(number), nar);
    await store.markPresent(nar.key, {
      fileHash: nar.fileHash ?? '',
      fileSize: nar.fileSize ?? 0,
      verification: 'nar',
      at: 1_795_000_000_000,
    });
  }
  await store.close();
  const database = new DatabaseSync(path);
  const parts = database
    .prepare('select name, sum(pgsize) as bytes from dbstat group by name order by 2 desc')
    .all();
  database.close();
  const { size } = await stat(path);
  const each = (bytes: number): string => `${Math.round(bytes / PATHS)} bytes a path`;
  process.stdout.write(`${PATHS} paths, ${REFERENCES} references each: ${size} bytes, ${each(size)}\n`);
  for (const { name, bytes } of parts) process.stdout.write(`  ${String(name)}: ${each(Number(bytes))}\n`);
  process.stdout.write(`  Paths in 10 GB: ${Math.floor(1e10 / (size / PATHS))}\n`);
} finally {
  await rm(directory, { recursive: true });
}
