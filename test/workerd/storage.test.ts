import { env } from 'cloudflare:workers';
import { createMemoryStore } from '../../src/storage/memory.ts';
import { createR2Store } from '../../src/storage/r2.ts';
import { testBlobStore } from '../contract/storage/blob-store.contract.ts';

let stores = 0;

testBlobStore({
  name: 'memory in workerd',
  create: async () => ({ store: createMemoryStore(), cleanup: async () => undefined }),
  unsupported: { fileSource: 'it runs where there are no files' },
});

testBlobStore({
  name: 'r2',
  async create() {
    const prefix = `store-${stores++}/`;
    return {
      store: createR2Store({ bucket: env.BUCKET, description: 'r2:BUCKET', prefix }),
      cleanup: async () => undefined,
    };
  },
  unsupported: { fileSource: 'there are no files on Workers' },
});
