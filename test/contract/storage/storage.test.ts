import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createFileStore } from '../../../src/storage/file.ts';
import { createMemoryStore } from '../../../src/storage/memory.ts';
import { testBlobStore } from './blob-store.contract.ts';

testBlobStore({
  name: 'memory',
  create: async () => ({ store: createMemoryStore(), cleanup: async () => undefined }),
  unsupported: { fileSource: 'it runs where there are no files' },
});

testBlobStore({
  name: 'file',
  async create() {
    const root = await mkdtemp(join(tmpdir(), 'snowcap-file-store-'));
    return {
      store: await createFileStore({ root }),
      async leftovers() {
        const entries = await readdir(join(root, '.snowcap'), { recursive: true, withFileTypes: true });
        return entries
          .filter((entry) => !entry.isDirectory())
          .map((entry) => join(entry.parentPath, entry.name));
      },
      cleanup: () => rm(root, { recursive: true }),
    };
  },
});
