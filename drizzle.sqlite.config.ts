import { type Config, defineConfig } from 'drizzle-kit';

/** The migrations of the index in SQLite, for node:sqlite and D1: `npm run db:generate`. */
const config: Config = defineConfig({
  dialect: 'sqlite',
  schema: './src/database/sqlite/schema.ts',
  out: './drizzle/sqlite',
});

export default config;
