import {
  type Justification,
  MetadataError,
  type NarRecord,
  type NarState,
  type NewNar,
  type NewPath,
  type PathRecord,
  type PathWithNar,
  type Verification,
} from './metadata-store.ts';

/** A row by column name. */
export type Row = Readonly<Record<string, unknown>>;

/** What can be bound. Numbers are integers within ±(2^53 - 1). */
export type Value = string | number | null;

const STATES: readonly NarState[] = ['known', 'present', 'evicting', 'absent', 'quarantined'];
const VERIFICATIONS: readonly Verification[] = ['none', 'file', 'nar'];
const HASH_LENGTH = 32;
const HASH = /^[0-9a-z]{32}$/;
/** The limits of a base name that matter here: what it begins with, and that a space cannot be in it. */
const BASE_NAME = /^[0-9a-z]{32}-[^\s/]+$/u;

/** A path and its NAR from a row of the hit query. @throws MetadataError if a column has no sensible value */
export function pathWithNarOf(row: Row): PathWithNar {
  return { path: pathOf(row), nar: narOf(row) };
}

/** @throws MetadataError if a column has no sensible value */
export function pathOf(row: Row): PathRecord {
  const references = text(row, 'references');
  return {
    id: integer(row, 'id'),
    hash: text(row, 'hash'),
    storePath: text(row, 'store_path'),
    narHash: text(row, 'nar_hash'),
    narSize: integer(row, 'nar_size'),
    references: references === '' ? [] : references.split(' '),
    deriver: textOrNull(row, 'deriver'),
    ca: textOrNull(row, 'ca'),
    signatures: jsonArray(row, 'signatures').map(signatureOf),
    extra: jsonArray(row, 'extra').map(pairOf),
    justification: justificationOf(row),
    origin: textOrNull(row, 'origin'),
    recordedAt: integer(row, 'recorded_at'),
    narKey: text(row, 'key'),
    revision: integer(row, 'revision'),
  };
}

/** @throws MetadataError if a column has no sensible value */
export function narOf(row: Row): NarRecord {
  const upstream = textOrNull(row, 'source_upstream');
  return {
    id: integer(row, 'nar_id'),
    key: text(row, 'key'),
    compression: text(row, 'compression'),
    fileHash: textOrNull(row, 'file_hash'),
    fileSize: row['file_size'] === null ? null : integer(row, 'file_size'),
    source: upstream === null ? null : { upstream, url: text(row, 'source_url') },
    state: oneOf(row, 'state', STATES),
    verification: oneOf(row, 'verification', VERIFICATIONS),
    generation: integer(row, 'generation'),
    lastAccess: integer(row, 'last_access'),
  };
}

/** What is bound for the columns of `paths`. */
export interface PathValues {
  hash: string;
  storePath: string;
  narHash: string;
  narSize: number;
  references: string;
  deriver: string | null;
  ca: string | null;
  signatures: string;
  extra: string;
  justification: string;
  justifiedBy: string | null;
  origin: string | null;
  recordedAt: number;
}

/** @throws MetadataError where a value cannot be kept as it is */
export function pathValues(path: NewPath): PathValues {
  if (!HASH.test(path.hash)) throw unfit('hash part', path.hash, 'expected 32 characters of nix32');
  for (const reference of path.references) {
    if (!BASE_NAME.test(reference)) throw unfit('reference', reference, 'expected <hash>-<name>');
  }
  return {
    hash: path.hash,
    storePath: path.storePath,
    narHash: path.narHash,
    narSize: whole('NAR size', path.narSize),
    references: path.references.join(' '),
    deriver: path.deriver,
    ca: path.ca,
    ...justificationValues(path.signatures, path.justification),
    extra: JSON.stringify(path.extra),
    origin: path.origin,
    recordedAt: whole('time', path.recordedAt),
  };
}

/** Hash parts of the references other than the path itself, each once. */
export function referredHashes(path: NewPath): readonly string[] {
  const hashes = new Set(path.references.map((reference) => reference.slice(0, HASH_LENGTH)));
  hashes.delete(path.hash);
  return [...hashes];
}

/** What is bound for the signatures of a path and what justifies it. */
export function justificationValues(
  signatures: readonly string[],
  justification: Justification,
): { signatures: string; justification: string; justifiedBy: string | null } {
  return {
    signatures: JSON.stringify(signatures),
    justification: justification.kind,
    justifiedBy: justifiedBy(justification),
  };
}

/** What is bound for the columns of `nars`. */
export interface NarValues {
  key: string;
  compression: string;
  fileHash: string | null;
  fileSize: number | null;
  sourceUpstream: string | null;
  sourceUrl: string | null;
  /** 1 where no source is known, else 0. */
  pushed: number;
}

/** @throws MetadataError where a value cannot be kept as it is */
export function narValues(nar: NewNar): NarValues {
  return {
    key: nar.key,
    compression: nar.compression,
    fileHash: nar.fileHash,
    fileSize: nar.fileSize === null ? null : whole('file size', nar.fileSize),
    sourceUpstream: nar.source?.upstream ?? null,
    sourceUrl: nar.source?.url ?? null,
    pushed: nar.source === null ? 1 : 0,
  };
}

/** The number, if it can be kept exactly: a safe integer, not negative. @throws MetadataError */
export function whole(what: string, value: number): number {
  if (!Number.isSafeInteger(value) || value < 0)
    throw unfit(what, value, 'expected a whole number up to 2^53');
  return value;
}

/** @throws MetadataError if the column is no safe integer */
export function integer(row: Row, column: string): number {
  const value = row[column];
  if (typeof value === 'number' && Number.isSafeInteger(value)) return value;
  throw damaged(column);
}

/** @throws MetadataError if the column is no text */
export function text(row: Row, column: string): string {
  const value = row[column];
  if (typeof value === 'string') return value;
  throw damaged(column);
}

function textOrNull(row: Row, column: string): string | null {
  return row[column] === null ? null : text(row, column);
}

function oneOf<Value extends string>(row: Row, column: string, values: readonly Value[]): Value {
  const found = values.find((value) => value === row[column]);
  if (found === undefined) throw damaged(column);
  return found;
}

function jsonArray(row: Row, column: string): readonly unknown[] {
  const json = text(row, column);
  // The common case of `extra`, and not worth a parser.
  if (json === '[]') return [];
  try {
    const value: unknown = JSON.parse(json);
    if (isArray(value)) return value;
  } catch {
    // Reported below, without the parser's excerpt of the value.
  }
  throw damaged(column);
}

/** As `Array.isArray`, but without making its elements `any`. */
function isArray(value: unknown): value is readonly unknown[] {
  return Array.isArray(value);
}

function signatureOf(signature: unknown): string {
  if (typeof signature === 'string') return signature;
  throw damaged('signatures');
}

function pairOf(pair: unknown): readonly [string, string] {
  if (isArray(pair)) {
    const [name, value] = pair;
    if (typeof name === 'string' && typeof value === 'string') return [name, value];
  }
  throw damaged('extra');
}

function justificationOf(row: Row): Justification {
  const kind = text(row, 'justification');
  switch (kind) {
    case 'key':
      return { kind, publicKey: text(row, 'justified_by') };
    case 'unsigned-upstream':
      return { kind, upstream: text(row, 'justified_by') };
    case 'content-address':
    case 'pushed':
      return { kind };
    default:
      throw damaged('justification');
  }
}

function justifiedBy(justification: Justification): string | null {
  switch (justification.kind) {
    case 'key':
      return justification.publicKey;
    case 'unsigned-upstream':
      return justification.upstream;
    case 'content-address':
    case 'pushed':
      return null;
  }
}

function unfit(what: string, value: string | number, why: string): MetadataError {
  return new MetadataError(`Cannot record ${what} ${JSON.stringify(value)}: ${why}`);
}

function damaged(column: string): MetadataError {
  return new MetadataError(`Column ${column} has a value that this version cannot read`);
}
