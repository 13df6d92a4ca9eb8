import { createHash } from 'node:crypto';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { streamOfBody } from '../../src/cache/stored-bytes.ts';

/** Every object of a store, as its key and the SHA-256 of what it holds. */
export async function contentOf(store: BlobStore): Promise<ReadonlyMap<string, string>> {
  const content = new Map<string, string>();
  for await (const { key } of store.list('')) {
    const blob = await store.get(key);
    if (blob?.kind !== 'found') continue;
    const hash = createHash('sha256');
    for await (const chunk of streamOfBody(blob.body)) hash.update(chunk);
    content.set(key, hash.digest('hex'));
  }
  return content;
}
