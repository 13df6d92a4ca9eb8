import { sql } from 'drizzle-orm';
import { value } from '../compile.ts';
import { createTableRows, namesOf } from '../table-pages.ts';
import type { TableRows } from '../table-rows.ts';
import { compile } from './compile.ts';
import type { SqliteExecutor } from './executor.ts';
import * as tables from './schema.ts';

/** SQLITE_CONSTRAINT_FOREIGNKEY (https://sqlite.org/rescode.html). */
const FOREIGN_KEY = 787;

/** The rows of an index in SQLite; new ids are beyond those that are there by themselves. */
export function sqliteTableRows({ execute }: Pick<SqliteExecutor, 'execute'>): TableRows {
  return createTableRows({
    compile,
    tables,
    insert(table, columns) {
      const cells = columns.map((_, at) => sql.raw(`json_extract(value, '$[${at}]')`));
      // Without `where true` the parser takes ON CONFLICT for a join condition.
      return sql`insert into ${table} (${namesOf(columns)})
        select ${sql.join(cells, sql`, `)} from json_each(${value('rows')}) where true on conflict do nothing`;
    },
    isDangling: (error) => error instanceof Error && 'errcode' in error && error.errcode === FOREIGN_KEY,
    run: execute,
  });
}
