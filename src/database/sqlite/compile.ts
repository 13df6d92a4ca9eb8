import { is, Param, Placeholder, type SQL, sql, type SQLWrapper } from 'drizzle-orm';
import { SQLiteAsyncDialect, type SQLiteColumn } from 'drizzle-orm/sqlite-core';
import { drizzle, type SqliteRemoteDatabase } from 'drizzle-orm/sqlite-proxy';
import type { SqliteStatement, SqliteValue } from './executor.ts';

const dialect = new SQLiteAsyncDialect();

/**
 * Builds statements from the schema. It cannot run them: drizzle's own way of running a statement
 * puts the bound values into its error messages.
 */
export const build: SqliteRemoteDatabase = drizzle(() =>
  Promise.reject(new Error('Statements are run by the executor')),
);

/** Turns the values of its placeholders into a statement that can be run. */
export type Compiled<Name extends string = never> = (
  values: Readonly<Record<Name, SqliteValue>>,
) => SqliteStatement;

/** Compiles a statement once, for all its runs. Defaults of the schema are bound like other values. */
export function compile<Name extends string>(query: SQLWrapper): Compiled<Name> {
  const { sql: text, params } = dialect.sqlToQuery(query.getSQL());
  const bindings = params.map((param) => bindingOf(is(param, Param) ? param.value : param, text));
  return (values) => ({ sql: text, params: bindings.map((valueIn) => valueIn(values)) });
}

type Binding = (values: Readonly<Record<string, SqliteValue>>) => SqliteValue;

function bindingOf(bound: unknown, text: string): Binding {
  if (typeof bound === 'string' || typeof bound === 'number') return () => bound;
  if (!is(bound, Placeholder)) throw new Error(`A statement has a value that cannot be bound: ${text}`);
  const { name } = bound;
  return (values) => {
    const given = values[name];
    if (given === undefined) throw new Error(`No value was given for ${name}: ${text}`);
    return given;
  };
}

/** A value that is given when the statement is run. */
export function value(name: string): SQL {
  return sql`${sql.placeholder(name)}`;
}

/** A selection of columns under their own names, which SQLite promises only where they are spelled out. */
export function columns(...list: readonly SQLiteColumn[]): Record<string, SQL.Aliased> {
  return Object.fromEntries(list.map((column) => [column.name, sql`${column}`.as(column.name)]));
}
