import { readdirSync } from 'node:fs';
import { onTestFinished } from 'vitest';
import type {
  BlobStore,
  GetOptions,
  StoredBlob,
  UnsatisfiableRange,
} from '../../../src/storage/blob-store.ts';
import { collect } from '../../../src/stream/byte-stream.ts';
import type { BlobStoreContract, BlobStoreSubject } from './blob-store.contract.ts';

/** A fresh store, cleaned up after the test. */
export async function open(contract: BlobStoreContract): Promise<BlobStoreSubject> {
  const subject = await contract.create();
  onTestFinished(async () => {
    await subject.store.close();
    await subject.cleanup();
  });
  return subject;
}

/** An object that must be there. */
export async function found(store: BlobStore, key: string, options?: GetOptions): Promise<StoredBlob> {
  return expectFound(key, await store.get(key, options));
}

/** @throws where it is absent or the range is unsatisfiable */
export function expectFound(key: string, blob: StoredBlob | UnsatisfiableRange | null): StoredBlob {
  if (blob?.kind !== 'found') throw new Error(`Expected the object ${key}, found ${JSON.stringify(blob)}`);
  return blob;
}

/** The body of an object, read to its end; null if it is absent. For objects up to 64 MiB. */
export async function bodyOf(
  store: BlobStore,
  key: string,
  options?: GetOptions,
): Promise<Uint8Array | null> {
  const blob = await store.get(key, options);
  return blob === null ? null : whole(expectFound(key, blob));
}

export async function whole(blob: StoredBlob): Promise<Uint8Array> {
  return blob.body.kind === 'bytes' ? blob.body.bytes : collect(blob.body.stream, 64 * 1024 * 1024);
}

/** Stores bytes. */
export async function store(target: BlobStore, key: string, bytes: Uint8Array): Promise<void> {
  await target.put(key, { kind: 'bytes', bytes });
}

export function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Bytes in which every part differs from every other. */
export function noise(size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  // As much as WebCrypto gives at once.
  for (let at = 0; at < size; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
  return bytes;
}

export async function keysOf(target: BlobStore, prefix: string, after?: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of target.list(prefix, after === undefined ? {} : { after })) keys.push(key);
  return keys;
}

/** Descriptors that this process has open (Linux); 0 in workerd, whose files are none of the machine's. */
export function openDescriptors(): number {
  return navigator.userAgent === 'Cloudflare-Workers' ? 0 : readdirSync('/proc/self/fd').length;
}

/** What the store has open: by default the descriptors of this process. */
export function heldBy({ held }: BlobStoreSubject): number {
  return held?.() ?? openDescriptors();
}

/** The body of an object as text; null if it is absent. */
export async function textOf(store: BlobStore, key: string): Promise<string | null> {
  const body = await bodyOf(store, key);
  return body === null ? null : new TextDecoder().decode(body);
}
