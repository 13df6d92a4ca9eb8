import { type SQL, sql } from 'drizzle-orm';
import { SQLiteAsyncDialect, type SQLiteColumn } from 'drizzle-orm/sqlite-core';
import { drizzle, type SqliteRemoteDatabase } from 'drizzle-orm/sqlite-proxy';
import { type Compile, compilerOf } from '../compile.ts';

/**
 * Builds statements from the schema. It cannot run them: drizzle's own way of running a statement
 * puts the bound values into its error messages.
 */
export const build: SqliteRemoteDatabase = drizzle(() =>
  Promise.reject(new Error('Statements are run by the executor')),
);

export const compile: Compile = compilerOf(new SQLiteAsyncDialect());

/** A selection of columns under their own names, which SQLite promises only where they are spelled out. */
export function columns(...list: readonly SQLiteColumn[]): Record<string, SQL.Aliased> {
  return Object.fromEntries(list.map((column) => [column.name, sql`${column}`.as(column.name)]));
}
