import { sql } from 'drizzle-orm';
import { value } from '../compile.ts';
import { createTableRows, isWhole, namesOf } from '../table-pages.ts';
import { codeOf } from '../retry.ts';
import type { TableRows } from '../table-rows.ts';
import { compile } from './compile.ts';
import type { MysqlExecutor } from './executor.ts';
import * as tables from './schema.ts';

/** The rows of an index on MySQL and MariaDB; new ids are beyond those that are there by themselves. */
export function mysqlTableRows({ run }: Pick<MysqlExecutor, 'run'>): TableRows {
  return createTableRows({
    compile,
    tables,
    insert(table, columns) {
      const read = columns.map((column, at) =>
        sql.raw(`c${at} ${isWhole(column) ? 'bigint' : 'longtext character set utf8mb4'} path '$[${at}]'`),
      );
      const cells = columns.map((column, at) =>
        sql.raw(isWhole(column) ? `item.c${at}` : `convert(item.c${at} using utf8mb4) collate utf8mb4_bin`),
      );
      const [key] = columns;
      // Changes nothing; `insert ignore` would pass over other faults too.
      const same = sql`${sql.identifier(key?.name ?? '')} = ${key}`;
      return sql`insert into ${table} (${namesOf(columns)})
        select ${sql.join(cells, sql`, `)}
          from json_table(${value('rows')}, '$[*]' columns (${sql.join(read, sql`, `)})) as item
        on duplicate key update ${same}`;
    },
    isDangling: (error) => codeOf(error) === 'ER_NO_REFERENCED_ROW_2',
    run: (statement) => run(statement),
  });
}
