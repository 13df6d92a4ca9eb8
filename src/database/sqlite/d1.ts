import type { IndexStore } from '../index-store.ts';
import type { SqliteExecutor, SqliteRow, SqliteStatement, SqliteValue } from './executor.ts';
import { createMetadataStore } from './store.ts';

/** What is used of the binding of a D1 database (`D1Database` of @cloudflare/workers-types fits). */
export interface D1DatabaseLike {
  prepare(sql: string): D1StatementLike;
  /** In one transaction. */
  batch(statements: D1StatementLike[]): Promise<readonly D1ResultLike[]>;
}

export interface D1StatementLike {
  bind(...values: readonly SqliteValue[]): D1StatementLike;
  all(): Promise<D1ResultLike>;
}

export interface D1ResultLike {
  readonly results: readonly SqliteRow[];
}

export interface D1StoreOptions {
  /** The binding of the database. */
  readonly database: D1DatabaseLike;
  /** As in `MetadataStore`: `d1:` and the name of the binding. */
  readonly description: string;
  /** Called with `index.<operation>` before each operation that writes, as in `Platform`. */
  readonly checkpoint?: ((step: string) => void | Promise<void>) | undefined;
  /** Waits so many milliseconds before another attempt. For tests. */
  readonly sleep?: (milliseconds: number) => Promise<void>;
  /**
   * In [0, 1): spreads the attempts of those that failed together.
   *
   * @default Math.random
   */
  readonly random?: () => number;
}

/**
 * The migrations of `drizzle/sqlite` by the names under which D1 keeps them. On Workers there is no folder to
 * look them up in, so they stand here; a test compares the two.
 */
export const D1_MIGRATIONS: readonly string[] = ['0000_index.sql', '0001_leases.sql', '0002_upkeep.sql'];

/** Where `wrangler d1 migrations apply` keeps what was applied. */
const APPLIED: SqliteStatement = { sql: 'select name from d1_migrations order by id', params: [] };

/**
 * The errors after which D1's documentation says to retry
 * (https://developers.cloudflare.com/d1/observability/debug-d1/): the network, or a database that starts anew. Not
 * those of an overloaded database, which further attempts would load more; the caller has its own way
 * to do without an index.
 */
const PASSING =
  /Network connection lost|storage caused object to be reset|reset because its code was updated|transient issue on remote node|client disconnected/;

/** The most that is waited before each further attempt, in milliseconds. */
const PAUSES: readonly number[] = [100, 300, 900];

/** What SQLite says of a schema that is not the one of the statement. */
const OTHER_SCHEMA = /no such (table|column)|has no column named/;

/**
 * The index in a database of Cloudflare D1, and the leases beside it, over its binding: on Workers only. The schema must be there already
 * (`wrangler d1 migrations apply`, from `drizzle/sqlite`): nothing is migrated on a request, and nothing is
 * asked about the schema until a statement fails for it.
 *
 * Operations are repeated a few times where their fault is one that passes. One whose answer was lost may have been
 * done: as the interface says, each may be, though a compare-and-set then finds that its turn is over.
 */
export function createD1Store(options: D1StoreOptions): IndexStore {
  const { description, checkpoint } = options;
  return createMetadataStore(d1Executor(options), { description, checkpoint });
}

function d1Executor(options: D1StoreOptions): SqliteExecutor {
  const { database, sleep = realSleep, random = Math.random } = options;
  let closed = false;

  function bound({ sql, params }: SqliteStatement): D1StatementLike {
    return database.prepare(sql).bind(...params);
  }

  async function persistently<Result>(attempt: () => Promise<Result>): Promise<Result> {
    if (closed) throw new Error('It is closed');
    for (let failures = 0; ; failures++) {
      try {
        return await attempt();
      } catch (error) {
        const pause = PAUSES[failures];
        if (pause === undefined || !PASSING.test(messageOf(error))) throw await explained(error);
        await sleep(pause * (0.5 + random() / 2));
      }
    }
  }

  /** The error, or what is wrong with the schema where that is behind it. */
  async function explained(error: unknown): Promise<unknown> {
    if (!OTHER_SCHEMA.test(messageOf(error))) return error;
    try {
      const { results } = await bound(APPLIED).all();
      return wrongSchema(
        results.map(({ name }) => String(name)),
        error,
      );
    } catch (fault) {
      return OTHER_SCHEMA.test(messageOf(fault)) ? wrongSchema([], error) : error;
    }
  }

  return {
    execute: (statement) => persistently(async () => (await bound(statement).all()).results),
    batch: (statements) =>
      persistently(async () => {
        const answers = await database.batch(statements.map(bound));
        return answers.map(({ results }) => results);
      }),
    async close() {
      closed = true;
    },
  };
}

function wrongSchema(applied: readonly string[], cause: unknown): Error {
  const apply = 'run `wrangler d1 migrations apply`';
  const missing = D1_MIGRATIONS.find((name) => !applied.includes(name));
  const unknown = applied.find((name) => !D1_MIGRATIONS.includes(name));
  if (applied.length === 0) return new Error(`The database has no schema: ${apply}`, { cause });
  if (missing !== undefined) {
    return new Error(`The schema of the database is older than this version, it lacks ${missing}: ${apply}`, {
      cause,
    });
  }
  if (unknown !== undefined) {
    return new Error(
      `The schema of the database is newer than this version, which does not know ${unknown}: deploy the version ` +
        'that it was made for',
      { cause },
    );
  }
  return new Error(`The schema of the database was changed by hand: ${messageOf(cause)}`, { cause });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function realSleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
  });
}
