import { type Config, defineConfig } from 'drizzle-kit';

/** The migrations of the index in PostgreSQL: `npm run db:generate`. */
const config: Config = defineConfig({
  dialect: 'postgresql',
  schema: './src/database/postgres/schema.ts',
  out: './drizzle/postgres',
});

export default config;
