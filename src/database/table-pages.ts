import { type Column, getTableColumns, type SQL, sql, type Table } from 'drizzle-orm';
import { type Compile, type Compiled, type Statement, value } from './compile.ts';
import { MetadataError } from './metadata-store.ts';
import { inOperation } from './operation.ts';
import type { Row } from './rows.ts';
import { type Cells, DanglingRowError, KEY_LENGTH, type TableName, type TableRows } from './table-rows.ts';

/** What the dialects say differently. */
export interface TableDialect {
  readonly compile: Compile;
  readonly tables: Readonly<Record<TableName, Table>>;
  /** Adds the rows of a JSON array of arrays under the name `rows`, but for those that are there. */
  insert(table: Table, columns: readonly Column[]): SQL;
  /** Whether an error says that what a row refers to is not there. */
  isDangling(error: unknown): boolean;
  /** For `settleIds`, of one table; absent where a database does it by itself. */
  readonly settle?: (table: Table) => SQL;
  run(statement: Statement): Promise<readonly Row[]>;
}

/** A column holds integers; the others hold texts. */
export function isWhole(column: Column): boolean {
  return column.dataType === 'number';
}

/** Names of columns as they stand in an `insert`. */
export function namesOf(columns: readonly Column[]): SQL {
  return sql.join(
    columns.map(({ name }) => sql.identifier(name)),
    sql`, `,
  );
}

interface TableStatements {
  readonly columns: readonly Column[];
  readonly select: Compiled<'first' | 'second' | 'limit'>;
  readonly insert: Compiled<'rows'>;
}

/** The rows of an index in any dialect. */
export function createTableRows(dialect: TableDialect): TableRows {
  const compiled = new Map<TableName, TableStatements>();
  /** Most processes never ask for it. */
  function statementsOf(name: TableName): TableStatements {
    let statements = compiled.get(name);
    if (statements === undefined) {
      const table = dialect.tables[name];
      const columns = columnsOf(name, table);
      statements = {
        columns,
        select: dialect.compile(selectPage(table, columns, KEY_LENGTH[name])),
        insert: dialect.compile(dialect.insert(table, columns)),
      };
      compiled.set(name, statements);
    }
    return statements;
  }

  return {
    list: (name, after, limit) =>
      inOperation(`Index operation list ${name}`, async () => {
        const { columns, select } = statementsOf(name);
        const [first, second] = columns;
        const rows = await dialect.run(
          select({
            first: after?.[0] ?? least(first),
            second: after?.[1] ?? least(second),
            limit,
          }),
        );
        return rows.map((row) => columns.map((column) => cellOf(row, column)));
      }),

    async insert(name, rows) {
      if (rows.length === 0) return;
      const what = `Index operation insert ${name}`;
      try {
        await inOperation(what, () => dialect.run(statementsOf(name).insert({ rows: JSON.stringify(rows) })));
      } catch (error) {
        if (!(error instanceof Error) || !dialect.isDangling(error.cause)) throw error;
        throw new DanglingRowError(`${what} failed: what a row refers to is not there`, { cause: error });
      }
    },

    settleIds: () =>
      inOperation('Index operation settleIds', async () => {
        const { compile, run, settle, tables } = dialect;
        if (settle === undefined) return;
        for (const name of TABLES_WITH_IDS) await run(compile(settle(tables[name]))({}));
      }),
  };
}

/** The tables whose ids the database gives. */
const TABLES_WITH_IDS: readonly TableName[] = ['storeHashes', 'nars', 'paths', 'pins'];

const KEYS: Readonly<Record<TableName, readonly string[]>> = {
  storeHashes: ['id'],
  nars: ['id'],
  paths: ['id'],
  referenceEdges: ['referrer', 'reference'],
  pins: ['id'],
  pinnedPaths: ['pinId', 'nodeId'],
  bans: ['hash'],
  meta: ['key'],
};

/** The key first, then all others by name: whatever their order is in the schema. */
function columnsOf(name: TableName, table: Table): readonly Column[] {
  const keys = KEYS[name];
  const columns = getTableColumns(table);
  const others = Object.keys(columns)
    .filter((column) => !keys.includes(column))
    .sort();
  return [...keys, ...others].map((property) => {
    const column = columns[property];
    if (column === undefined) throw new Error(`The table ${name} has no column ${property}`);
    return column;
  });
}

/** As with an index: not by comparing pairs, for which MySQL would look at every row. */
function selectPage(table: Table, columns: readonly Column[], keyLength: number): SQL {
  const [first, second] = columns;
  if (first === undefined || second === undefined) throw new Error('A table has no columns');
  const listed = columns.map((column) => sql`${column} as ${sql.identifier(column.name)}`);
  const after =
    keyLength === 1
      ? sql`${first} > ${value('first')}`
      : sql`${first} >= ${value('first')} and (${first} > ${value('first')} or ${second} > ${value('second')})`;
  const order = keyLength === 1 ? sql`${first}` : sql`${first}, ${second}`;
  return sql`select ${sql.join(listed, sql`, `)} from ${table} where ${after}
    order by ${order} limit ${value('limit')}`;
}

/** Before every value of a key. */
function least(column: Column | undefined): string | number {
  return column !== undefined && isWhole(column) ? 0 : '';
}

function cellOf(row: Row, column: Column): Cells[number] {
  const cell = row[column.name];
  if (cell === null || typeof cell === 'string') return cell;
  if (typeof cell === 'number' && Number.isSafeInteger(cell)) return cell;
  throw new MetadataError(`Column ${column.name} has a value that this version cannot read`);
}
