import { is, Param, Placeholder, type Query, type SQL, sql, type SQLWrapper } from 'drizzle-orm';
import type { Value } from './rows.ts';

/** SQL text, one of a fixed set (drivers may keep what they prepared of it), and what is bound to it. */
export interface Statement {
  readonly sql: string;
  readonly params: readonly Value[];
}

/** Turns the values of its placeholders into a statement that can be run. */
export type Compiled<Name extends string = never> = (values: Readonly<Record<Name, Value>>) => Statement;

/** Compiles a statement once, for all its runs. Defaults of the schema are bound like other values. */
export type Compile = <Name extends string>(query: SQLWrapper) => Compiled<Name>;

/** @param dialect one of drizzle's: it knows the quotes of names and the marks of parameters */
export function compilerOf(dialect: { sqlToQuery(query: SQL): Query }): Compile {
  return (query) => {
    const { sql: text, params } = dialect.sqlToQuery(query.getSQL());
    const bindings = params.map((param) => bindingOf(is(param, Param) ? param.value : param, text));
    return (values) => ({ sql: text, params: bindings.map((valueIn) => valueIn(values)) });
  };
}

type Binding = (values: Readonly<Record<string, Value>>) => Value;

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
