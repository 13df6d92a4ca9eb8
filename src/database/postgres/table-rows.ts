import { PgDialect } from 'drizzle-orm/pg-core';
import { getTableName, sql } from 'drizzle-orm';
import { compilerOf, value } from '../compile.ts';
import { createTableRows, isWhole, namesOf } from '../table-pages.ts';
import { codeOf } from '../retry.ts';
import type { TableRows } from '../table-rows.ts';
import type { PostgresExecutor } from './executor.ts';
import * as tables from './schema.ts';

/** The rows of an index on PostgreSQL. */
export function postgresTableRows({ execute }: Pick<PostgresExecutor, 'execute'>): TableRows {
  return createTableRows({
    compile: compilerOf(new PgDialect()),
    tables,
    insert(table, columns) {
      const cells = columns.map((column, at) =>
        sql.raw(isWhole(column) ? `(item ->> ${at})::bigint` : `item ->> ${at}`),
      );
      return sql`insert into ${table} (${namesOf(columns)}) overriding system value
        select ${sql.join(cells, sql`, `)} from jsonb_array_elements(${value('rows')}::text::jsonb) as item
        on conflict do nothing`;
    },
    settle(table) {
      const name = sql.raw(`'${getTableName(table)}'`);
      return sql`select setval(pg_get_serial_sequence(${name}, 'id'), coalesce(max(id), 1), max(id) is not null)
        from ${table}`;
    },
    isDangling: (error) => codeOf(error) === '23503',
    run: execute,
  });
}
