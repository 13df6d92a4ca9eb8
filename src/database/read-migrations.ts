import { fileURLToPath } from 'node:url';
import { type MigrationMeta, readMigrationFiles } from 'drizzle-orm/migrator';

/** The migrations of a folder that drizzle-kit wrote, oldest first. @throws Error if it is not there or not whole */
export function readMigrations(folder: string): readonly MigrationMeta[] {
  return readMigrationFiles({ migrationsFolder: folder });
}

/** The migrations of this version, oldest first. SQLite's are for D1 too, MySQL's for MariaDB. */
export function migrationsFor(dialect: 'sqlite' | 'postgres' | 'mysql'): readonly MigrationMeta[] {
  return readMigrations(fileURLToPath(new URL(`../../drizzle/${dialect}`, import.meta.url)));
}
