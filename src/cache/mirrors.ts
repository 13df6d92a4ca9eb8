import type { Ban, NewPin } from '../database/upkeep-store.ts';
import type { BlobStore } from '../storage/blob-store.ts';
import { storedBytes } from './stored-bytes.ts';

/**
 * Pins and bans as objects of the bucket: what only the index would know, so that it can be rebuilt without losing them
 * (law 6). JSON with a `version`; a later version that this one cannot read is an error, never a pin less.
 */
const PINS = 'snowcap/pins/';
const BANS = 'snowcap/bans/';
const VERSION = 1;
const MOST_BYTES = 64 * 1024;

/** What is kept of a ban beside what the index knows. */
export interface BanMirror extends Ban {
  /** Storage key of the NAR that went with the path: to be removed again by whoever repeats the ban. */
  readonly narKey: string | null;
}

/** A name of a pin: what is safe in keys, URLs and on command lines. */
export const PIN_NAME: RegExp = /^[0-9A-Za-z_][0-9A-Za-z._-]{0,127}$/;

/** @throws StorageError */
export async function storePinMirror(storage: BlobStore, pin: NewPin): Promise<void> {
  const { name, storePath, hash, createdAt, expiresAt } = pin;
  await storeJson(storage, `${PINS}${name}`, { name, storePath, hash, createdAt, expiresAt });
}

/** @throws StorageError */
export async function removePinMirrors(storage: BlobStore, names: readonly string[]): Promise<void> {
  await storage.delete(names.map((name) => `${PINS}${name}`));
}

/** @throws StorageError */
export async function storeBanMirror(storage: BlobStore, ban: BanMirror): Promise<void> {
  const { hash, storePath, reason, at, narKey } = ban;
  await storeJson(storage, `${BANS}${hash}`, { hash, storePath, reason, at, narKey });
}

/** The mirror of one ban; null where there is none. @throws as `banMirrors` */
export async function banMirror(storage: BlobStore, hash: string): Promise<BanMirror | null> {
  const key = `${BANS}${hash}`;
  const fields = await readJson(storage, key);
  return fields === null ? null : banIn(fields, key);
}

/** @throws StorageError */
export async function removeBanMirror(storage: BlobStore, hash: string): Promise<void> {
  await storage.delete([`${BANS}${hash}`]);
}

/** All pins of the bucket, by name. @throws StorageError, and Error for one that cannot be read */
export async function* pinMirrors(storage: BlobStore): AsyncGenerator<NewPin, void, void> {
  for await (const { key } of storage.list(PINS)) {
    const fields = await readJson(storage, key);
    if (fields === null) continue;
    yield {
      name: textIn(fields, 'name', key),
      storePath: textIn(fields, 'storePath', key),
      hash: textIn(fields, 'hash', key),
      createdAt: timeIn(fields, 'createdAt', key),
      expiresAt: fields['expiresAt'] === null ? null : timeIn(fields, 'expiresAt', key),
    };
  }
}

/** All bans of the bucket, by hash. @throws as `pinMirrors` */
export async function* banMirrors(storage: BlobStore): AsyncGenerator<BanMirror, void, void> {
  for await (const { key } of storage.list(BANS)) {
    const fields = await readJson(storage, key);
    if (fields === null) continue;
    yield banIn(fields, key);
  }
}

function banIn(fields: Fields, key: string): BanMirror {
  return {
    hash: textIn(fields, 'hash', key),
    storePath: textIn(fields, 'storePath', key),
    reason: textIn(fields, 'reason', key),
    at: timeIn(fields, 'at', key),
    narKey: fields['narKey'] === null ? null : textIn(fields, 'narKey', key),
  };
}

type Fields = Readonly<Record<string, unknown>>;

async function storeJson(storage: BlobStore, key: string, fields: Fields): Promise<void> {
  const bytes = new TextEncoder().encode(`${JSON.stringify({ version: VERSION, ...fields }, null, 2)}\n`);
  await storage.put(key, { kind: 'bytes', bytes }, { contentType: 'application/json' });
}

/** Null where it is gone by now. */
async function readJson(storage: BlobStore, key: string): Promise<Fields | null> {
  const bytes = await storedBytes(storage, key, MOST_BYTES);
  if (bytes === null) return null;
  let value: unknown = null;
  try {
    value = JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw new Error(`${key} is no JSON`, { cause });
  }
  if (!isFields(value)) throw new Error(`${key} is no object of JSON`);
  if (value['version'] !== VERSION) throw new Error(`${key} is of another version than ${VERSION}`);
  return value;
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function textIn(fields: Fields, name: string, key: string): string {
  const value = fields[name];
  if (typeof value !== 'string') throw new Error(`${key} has no text ${name}`);
  return value;
}

function timeIn(fields: Fields, name: string, key: string): number {
  const value = fields[name];
  if (typeof value !== 'number' || !Number.isSafeInteger(value))
    throw new Error(`${key} has no time ${name}`);
  return value;
}
