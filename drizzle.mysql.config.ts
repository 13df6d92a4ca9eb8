import { type Config, defineConfig } from 'drizzle-kit';

/** The migrations of the index in MySQL and MariaDB: `npm run db:generate`. */
const config: Config = defineConfig({
  dialect: 'mysql',
  schema: './src/database/mysql/schema.ts',
  out: './drizzle/mysql',
});

export default config;
