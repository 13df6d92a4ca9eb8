import { createD1Store } from '../../src/database/sqlite/d1.ts';
import { testMetadataStore } from '../contract/database/metadata-store.contract.ts';
import { freshDatabase } from './d1-database.ts';

testMetadataStore({
  name: 'D1',
  async create() {
    const database = await freshDatabase();
    return {
      open: () => Promise.resolve(createD1Store({ database, description: 'd1:DB' })),
      remove: () => Promise.resolve(),
    };
  },
});
