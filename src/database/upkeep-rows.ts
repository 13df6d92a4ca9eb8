import { MetadataError, type Totals } from './metadata-store.ts';
import { integer, narOf, type Row, text } from './rows.ts';
import type { Ban, DanglingPath, Evictable, EvictingNar, PinRecord } from './upkeep-store.ts';

/** All throw MetadataError if a column has no sensible value. */

export function keeperIn(row: Row): Evictable['keptBy'] {
  if (integer(row, 'is_pinned') === 1) return 'pin';
  return integer(row, 'is_referred') === 1 ? 'referrer' : null;
}

export function evictableOf(row: Row): Evictable {
  const keptBy = keeperIn(row);
  return { nar: narOf(row), rank: integer(row, 'evict_rank'), accesses: integer(row, 'accesses'), keptBy };
}

/** From one row for each path, by NAR. */
export function evictingOf(rows: readonly Row[]): readonly EvictingNar[] {
  const nars = new Map<number, EvictingNar & { readonly hashes: string[] }>();
  for (const row of rows) {
    const id = integer(row, 'nar_id');
    let nar = nars.get(id);
    if (nar === undefined) {
      const fileSize = row['file_size'] === null ? 0 : integer(row, 'file_size');
      nar = { id, key: text(row, 'key'), generation: integer(row, 'generation'), fileSize, hashes: [] };
      nars.set(id, nar);
    }
    if (row['hash'] !== null) nar.hashes.push(text(row, 'hash'));
  }
  return [...nars.values()];
}

export function pinOf(row: Row): PinRecord {
  return {
    name: text(row, 'name'),
    storePath: text(row, 'store_path'),
    hash: text(row, 'hash'),
    createdAt: integer(row, 'created_at'),
    expiresAt: row['expires_at'] === null ? null : integer(row, 'expires_at'),
    paths: integer(row, 'paths'),
    unknownPaths: integer(row, 'unknown_paths'),
    absentPaths: integer(row, 'absent_paths'),
    presentBytes: integer(row, 'present_bytes'),
  };
}

export function banOf(row: Row): Ban {
  return {
    hash: text(row, 'hash'),
    storePath: text(row, 'store_path'),
    reason: text(row, 'reason'),
    at: integer(row, 'banned_at'),
  };
}

export function danglingOf(row: Row): DanglingPath {
  return {
    id: integer(row, 'id'),
    hash: text(row, 'hash'),
    storePath: text(row, 'store_path'),
    missing: text(row, 'missing'),
    missingCount: integer(row, 'missing_count'),
  };
}

export function totalsOf([row]: readonly Row[]): Totals {
  if (row === undefined) throw new MetadataError('The size counters are missing');
  return { presentBytes: integer(row, 'present_bytes'), presentNars: integer(row, 'present_nars') };
}
