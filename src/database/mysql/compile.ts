import { type SQL, sql } from 'drizzle-orm';
import { MySqlDialect } from 'drizzle-orm/mysql-core';
import { type Compile, compilerOf, value } from '../compile.ts';

export const compile: Compile = compilerOf(new MySqlDialect());

/** The strings of a JSON array as a table `listed`, in the collation of the columns, whatever the server's is. */
export function listed(name: string): SQL {
  return sql`(
    select convert(item.value using utf8mb4) collate utf8mb4_bin as value
      from json_table(${value(name)}, '$[*]' columns (value varchar(512) path '$')) as item
  ) as listed`;
}
