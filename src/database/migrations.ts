/** One migration as drizzle-kit wrote it. */
export interface Migration {
  /** Its statements, in order. */
  readonly sql: readonly string[];
  /** SHA-256 of its file, in hex: its name. */
  readonly hash: string;
  /** When it was generated, in milliseconds since the epoch. */
  readonly folderMillis: number;
}

/** Where what was applied is kept; drizzle's own tools read the same table. */
export const APPLIED: string = '__drizzle_migrations';

/** The database holds something that this version must not touch. The message says what, and what to do. */
export class UnsuitableDatabaseError extends Error {
  override readonly name = 'UnsuitableDatabaseError';
}

/**
 * The migrations that are still to be applied.
 *
 * @param applied hashes, oldest first
 * @param elsewhere what to name instead of this database, as `another path`
 * @throws UnsuitableDatabaseError if one was applied that this version does not know: a newer one's, or another program's
 */
export function pendingAfter<Known extends { readonly hash: string }>(
  applied: readonly unknown[],
  migrations: readonly Known[],
  elsewhere: string,
): readonly Known[] {
  for (const [at, hash] of applied.entries()) {
    if (hash !== migrations[at]?.hash) {
      throw new UnsuitableDatabaseError(
        `its schema has ${applied.length} migrations, of which number ${at + 1} is unknown to this version: ` +
          `run the version that wrote it or a newer one, or give ${elsewhere}`,
      );
    }
  }
  return migrations.slice(applied.length);
}

/** What `snowcap migrate` found, and did. */
export interface MigrationReport {
  /** How many migrations had been applied before. */
  readonly before: number;
  /** How many were missing; they are applied now, unless it was only to look. */
  readonly pending: number;
}

/** What to do about a schema that is not that of this version. */
export const RUN_MIGRATE: string = 'run `snowcap migrate` of this version';

/** Why a statement failed that met no table, or no column, of its own. */
export const NO_SCHEMA: string = `the database has no schema of Snowcap, or that of another version: ${RUN_MIGRATE}`;
