import { createD1Store } from '../../src/database/sqlite/d1.ts';
import { testLeaseStore } from '../contract/database/leases.contract.ts';
import { testMetadataStore } from '../contract/database/metadata-store.contract.ts';
import { freshDatabase } from './d1-database.ts';

const d1 = {
  name: 'D1',
  isSlow: true,
  async create() {
    const database = await freshDatabase();
    return {
      open: () => Promise.resolve(createD1Store({ database, description: 'd1:DB' })),
      async run(statement: string) {
        await database.prepare(statement).run();
      },
      remove: () => Promise.resolve(),
    };
  },
};

testMetadataStore(d1);
testLeaseStore(d1);
