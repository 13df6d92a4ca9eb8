import mysql from 'mysql2';
import { createPool, type PoolConnection, type ResultSetHeader, type RowDataPacket } from 'mysql2/promise';
import type { Statement } from '../compile.ts';
import { NO_SCHEMA, UnsuitableDatabaseError } from '../migrations.ts';
import { codeOf, inTime, retried, silence } from '../retry.ts';
import type { Row, Value } from '../rows.ts';
import { mysqlConnectionOf } from './connection.ts';

export interface MysqlClientOptions {
  /** `mysql://user:password@host:port/database`, with `?tls=true` for TLS. */
  readonly url: string;
  /**
   * Most connections at a time.
   *
   * @default 10
   */
  readonly poolSize?: number | undefined;
  /**
   * How long to wait for a connection, in milliseconds.
   *
   * @default 10000
   */
  readonly connectTimeoutMs?: number | undefined;
  /**
   * How long a statement may take, in milliseconds. The server ends it then; where it says nothing at all, the
   * connection is given up a little later.
   *
   * @default 10000
   */
  readonly statementTimeoutMs?: number | undefined;
}

// A getter of a CommonJS module: Node finds no export of that name to import.
const { TypedParameter } = mysql;

const DEFAULT_STATEMENT_TIMEOUT_MS = 10_000;
const DEFAULT_POOL_SIZE = 10;
/** How much longer than a statement may take its answer is waited for, in milliseconds. */
const SILENCE_MS = 2000;

/** What passes by itself. */
const PASSING = new Set([
  'ER_LOCK_DEADLOCK',
  'ER_LOCK_WAIT_TIMEOUT',
  // What was named was forgotten in this very moment (`UpkeepStore.prunePaths`, `pruneOrphans`).
  'ER_NO_REFERENCED_ROW_2',
  'ER_ROW_IS_REFERENCED_2',
  'ER_CON_COUNT_ERROR',
  'ER_SERVER_SHUTDOWN',
  'ER_CONNECTION_KILLED',
  // Of mysql2 and of the system: the connection was lost, or refused by a server that is starting again.
  'PROTOCOL_CONNECTION_LOST',
  'ECONNRESET',
  'ECONNREFUSED',
  'EPIPE',
]);
/** A table or a column is not there. */
const OTHER_SCHEMA = new Set(['ER_NO_SUCH_TABLE', 'ER_BAD_FIELD_ERROR']);

/** A connection as the pool keeps it, under what wraps it for each use. */
type RawConnection = PoolConnection['connection'];

export interface MysqlExecutor {
  /**
   * Runs statements in one transaction (one alone needs none), again where what went wrong passes.
   *
   * @returns the rows of the last one; for one that changes rows, an empty row for each row that it found
   */
  run(...statements: readonly Statement[]): Promise<readonly Row[]>;
  /** Frees the connections. May be called twice; what is run afterwards throws. */
  close(): Promise<void>;
}

export function mysqlExecutor(options: MysqlClientOptions): MysqlExecutor {
  const timeout = options.statementTimeoutMs ?? DEFAULT_STATEMENT_TIMEOUT_MS;
  const { options: connection } = mysqlConnectionOf(options.url, options.connectTimeoutMs);
  const pool = createPool({ ...connection, connectionLimit: options.poolSize ?? DEFAULT_POOL_SIZE });
  const prepared = new WeakSet<RawConnection>();
  let closing: Promise<void> | null = null;

  async function attempt(statements: readonly Statement[]): Promise<readonly Row[]> {
    const used = await pool.getConnection();
    let usable = false;
    try {
      const rows = await inTime(transaction(used, statements), timeout + SILENCE_MS, () => {
        return silence(timeout + SILENCE_MS);
      });
      usable = true;
      return rows;
    } catch (error) {
      usable = isOfServer(error) && (await rolledBack(used, timeout));
      throw error;
    } finally {
      if (usable) used.release();
      else used.destroy();
    }
  }

  async function transaction(
    used: PoolConnection,
    statements: readonly Statement[],
  ): Promise<readonly Row[]> {
    if (!prepared.has(used.connection)) {
      for (const text of sessionOf(timeout)) await used.query(text);
      prepared.add(used.connection);
    }
    const [only] = statements;
    if (only !== undefined && statements.length === 1) return await execute(used, only);
    await used.query('start transaction');
    let rows: readonly Row[] = [];
    for (const statement of statements) rows = await execute(used, statement);
    await used.query('commit');
    return rows;
  }

  return {
    async run(...statements) {
      try {
        return await retried(
          () => attempt(statements),
          (error) => closing === null && PASSING.has(codeOf(error) ?? ''),
        );
      } catch (cause) {
        if (!OTHER_SCHEMA.has(codeOf(cause) ?? '')) throw cause;
        throw new UnsuitableDatabaseError(NO_SCHEMA, { cause });
      }
    },
    close() {
      closing ??= pool.end();
      return closing;
    },
  };
}

/** What each connection begins with; what is in `/*M! *\/` is MariaDB's, what is in `/*!80000 *\/` is MySQL's. */
function sessionOf(timeoutMs: number): readonly string[] {
  // A wait for a lock is tried again: three of them are to fit.
  const lockSeconds = Math.max(1, Math.floor(timeoutMs / 3000));
  return [
    'set session transaction isolation level read committed',
    // A statement alone is a transaction, whatever the server's default. What does not fit is an error, and no text is
    // cut off. Recursive queries would stop at 1000 steps by themselves, MariaDB's without an error.
    `set session autocommit = 1, sql_mode = 'STRICT_ALL_TABLES', innodb_lock_wait_timeout = ${lockSeconds}
      /*M!100600 , max_statement_time = ${timeoutMs / 1000}, max_recursive_iterations = 4294967295 */
      /*!80000 , max_execution_time = ${timeoutMs}, cte_max_recursion_depth = 4294967295 */`,
  ];
}

async function execute(used: PoolConnection, { sql, params }: Statement): Promise<readonly Row[]> {
  const [result] = await used.execute<RowDataPacket[] | ResultSetHeader>(sql, params.map(bound));
  if (Array.isArray(result)) return result;
  return Array.from({ length: result.affectedRows }, () => ({}));
}

/** Numbers are integers: the driver would bind them as floating-point numbers, which no `limit` takes. */
function bound(value: Value) {
  return typeof value === 'number' ? TypedParameter.BIGINT(value) : value;
}

/** Whether the server said it, on a connection that goes on. */
function isOfServer(error: unknown): boolean {
  return error instanceof Error && 'sqlState' in error && (!('fatal' in error) || error.fatal !== true);
}

async function rolledBack(used: PoolConnection, timeoutMs: number): Promise<boolean> {
  try {
    await inTime(used.query('rollback'), timeoutMs, () => new Error('no answer'));
    return true;
  } catch {
    return false;
  }
}
