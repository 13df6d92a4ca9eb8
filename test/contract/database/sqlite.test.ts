import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { createSqliteStore } from '../../../src/database/sqlite/node.ts';
import { testLeaseStore } from './leases.contract.ts';
import { testMetadataStore } from './metadata-store.contract.ts';

const file = {
  name: 'a file of SQLite',
  async create() {
    const directory = await mkdtemp(join(tmpdir(), 'snowcap-index-'));
    return {
      open: () => createSqliteStore({ path: join(directory, 'index.db') }),
      run(statement: string) {
        const database = new DatabaseSync(join(directory, 'index.db'));
        database.exec(statement);
        database.close();
        return Promise.resolve();
      },
      remove: () => rm(directory, { recursive: true, force: true }),
    };
  },
};

const memory = {
  name: 'SQLite in memory',
  notShared: 'each handle on :memory: is an index of its own, gone when it is closed',
  create: () =>
    Promise.resolve({ open: () => createSqliteStore({ path: ':memory:' }), remove: () => Promise.resolve() }),
};

for (const subject of [file, memory]) {
  testMetadataStore(subject);
  testLeaseStore(subject);
}
