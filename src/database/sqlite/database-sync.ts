import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { type Patience, patiently, SqliteCode, sqliteCodeOf } from './busy.ts';
import type { SqliteExecutor, SqliteRow, SqliteStatement } from './executor.ts';

/**
 * Runs statements on an open database of node:sqlite. Each one, and each batch, is one synchronous call: nothing
 * of the process comes between, and the event loop stands still for as long as it takes.
 */
export function databaseSyncExecutor(database: DatabaseSync, patience: Patience): SqliteExecutor {
  const prepared = new Map<string, StatementSync>();
  /** Found by any statement, and not to be forgotten: the page that proved it may never be read again. */
  let damage: Error | null = null;

  function run({ sql, params }: SqliteStatement): readonly SqliteRow[] {
    let statement = prepared.get(sql);
    if (statement === undefined) {
      statement = database.prepare(sql);
      prepared.set(sql, statement);
    }
    return statement.all(...params);
  }

  function runAll(statements: readonly SqliteStatement[]): readonly (readonly SqliteRow[])[] {
    // The write lock first: a transaction that begins as a reader and then writes can meet a conflict
    // that no waiting resolves.
    run({ sql: 'begin immediate', params: [] });
    try {
      const results = statements.map(run);
      run({ sql: 'commit', params: [] });
      return results;
    } catch (error) {
      if (database.isTransaction) database.exec('rollback');
      throw error;
    }
  }

  async function guarded<Result>(attempt: () => Result): Promise<Result> {
    if (damage !== null) throw damage;
    try {
      return await patiently(patience, attempt);
    } catch (error) {
      const code = sqliteCodeOf(error);
      if (error instanceof Error && (code === SqliteCode.corrupt || code === SqliteCode.notADatabase)) {
        damage = error;
      }
      throw error;
    }
  }

  return {
    execute: (statement) => guarded(() => run(statement)),
    batch: (statements) => guarded(() => runAll(statements)),
    async close() {
      prepared.clear();
      if (database.isOpen) database.close();
    },
  };
}
