import type { Statement } from '../compile.ts';
import { NO_SCHEMA, UnsuitableDatabaseError } from '../migrations.ts';
import { codeOf, inTime, retried, silence } from '../retry.ts';
import type { Row } from '../rows.ts';
import {
  connectPostgres,
  DEFAULT_STATEMENT_TIMEOUT_MS,
  type PostgresClient,
  type PostgresClientOptions,
} from './client.ts';

/** How much longer than a statement may take its answer is waited for, in milliseconds. */
const SILENCE_MS = 2000;
/** How long `close` waits for statements that are still running, in seconds. */
const CLOSE_SECONDS = 5;

/** What passes by itself (https://www.postgresql.org/docs/current/errcodes-appendix.html). */
const PASSING = new Set([
  '40001', // serialization failure
  '40P01', // deadlock
  '23503', // foreign key: what was named was forgotten in this very moment (`UpkeepStore.prunePaths`, `pruneOrphans`)
  '53300', // too many connections
  '57P01', // the server, or somebody, ended the connection
  '57P02',
  '57P03', // the server is starting
  '08000',
  '08003',
  '08006',
  // Of postgres.js and of the system: the connection was lost, or refused by a server that is starting again.
  'CONNECTION_CLOSED',
  'CONNECTION_DESTROYED',
  'ECONNRESET',
  'ECONNREFUSED',
  'EPIPE',
]);
/** `simple` would be a text without values, which is what postgres.js takes no arguments for. */
const UNNAMED = { prepare: false, simple: false };
/** A table, a column or a schema is not there. */
const OTHER_SCHEMA = new Set(['42P01', '42703', '3F000']);
/** What a pooler says to a start-up parameter that it does not know. */
const PROTOCOL_VIOLATION = '08P01';

export interface PostgresExecutor {
  /** Runs one statement, again where what went wrong passes. @returns its rows */
  execute(statement: Statement): Promise<readonly Row[]>;
  /** Frees the connections, at last after some seconds. May be called twice; what is run afterwards throws. */
  close(): Promise<void>;
}

/**
 * Runs statements one by one. There are no transactions here: postgres.js ends the whole process when a connection
 * is lost within one (3.4.9 writes its `rollback` to a socket that is gone).
 */
export function postgresExecutor(options: PostgresClientOptions): PostgresExecutor {
  const patience = (options.statementTimeoutMs ?? DEFAULT_STATEMENT_TIMEOUT_MS) + SILENCE_MS;
  const prepare = options.prepare ?? false;
  let settings = options;
  let client = connectPostgres(settings);
  let closed = false;

  /** New connections for what comes next; who still waits on the old ones is told that they are gone. */
  function replace(old: PostgresClient): void {
    if (closed || client !== old) return;
    client = connectPostgres(settings);
    void old.end({ timeout: 0 });
  }

  async function attempt(statement: Statement): Promise<readonly Row[]> {
    const used = client;
    try {
      return await inTime(queryOf(used, statement, prepare), patience, () => {
        replace(used);
        return silence(patience);
      });
    } catch (error) {
      if (codeOf(error) !== PROTOCOL_VIOLATION || !messageOf(error).includes('startup parameter'))
        throw error;
      if (settings.startupParameters === false) throw error;
      settings = { ...settings, startupParameters: false };
      replace(used);
      return await attempt(statement);
    }
  }

  return {
    async execute(statement) {
      try {
        return await retried(
          () => attempt(statement),
          (error) => !closed && PASSING.has(codeOf(error) ?? ''),
        );
      } catch (cause) {
        if (!OTHER_SCHEMA.has(codeOf(cause) ?? '')) throw cause;
        throw new UnsuitableDatabaseError(NO_SCHEMA, { cause });
      }
    },
    async close() {
      closed = true;
      await client.end({ timeout: CLOSE_SECONDS });
    },
  };
}

/**
 * An unnamed statement goes to the server in one piece, with its values, and has one answer: one round trip, and
 * nothing is left on the connection. postgres.js would ask for the types of the values first, in a round trip of its
 * own; it does not where it finds them already given, as texts of types for the server to infer.
 */
function queryOf(client: PostgresClient, { sql, params }: Statement, prepare: boolean): PromiseLike<Row[]> {
  const query = prepare
    ? client.unsafe<Row[]>(sql, [...params], { prepare: true })
    : client.unsafe<Row[]>(sql, [], UNNAMED);
  return Object.defineProperties(query, {
    ...(prepare ? {} : { parameters: { value: [...params], writable: true } }),
    // Where the query was made, for the stacks of errors: postgres.js would keep one entry for ever for each that fails.
    origin: { value: '' },
  });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : '';
}
