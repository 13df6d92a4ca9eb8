/**
 * What the index in SQLite needs of a driver: one statement, or one atomic batch. Cloudflare D1 has nothing
 * else, so there are no interactive transactions, at most 100 parameters in a statement, and lists
 * travel as one JSON parameter.
 */
export interface SqliteExecutor {
  /** Runs one statement. @returns its rows, each an object by column name; empty where it gives none */
  execute(statement: SqliteStatement): Promise<readonly SqliteRow[]>;

  /**
   * Runs statements one after another in one write transaction: all of them, or none. No other statement
   * comes between.
   *
   * @returns the rows of each
   */
  batch(statements: readonly SqliteStatement[]): Promise<readonly (readonly SqliteRow[])[]>;

  /** Frees the database. May be called twice; what is run afterwards throws. */
  close(): Promise<void>;
}

/** SQL text, one of a fixed set (drivers may keep what they prepared of it), and what is bound to its `?`. */
export interface SqliteStatement {
  readonly sql: string;
  readonly params: readonly SqliteValue[];
}

/** Numbers are integers within ±(2^53 - 1). */
export type SqliteValue = string | number | null;

/** A row by column name. No statement gives two columns of one name: D1 would lose one of them. */
export type SqliteRow = Readonly<Record<string, unknown>>;
