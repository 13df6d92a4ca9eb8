import { sql } from 'drizzle-orm';
import type { LeaseStore } from '../lease-store.ts';
import { build, columns, compile, type Compiled, value } from './compile.ts';
import type { SqliteExecutor, SqliteStatement } from './executor.ts';
import { inOperation } from './operation.ts';
import { whole } from './rows.ts';
import { leases } from './schema.ts';

/** Milliseconds since the epoch by the clock of the database; within one statement it stands still. */
const now = sql`cast(round(1000 * unixepoch('now', 'subsec')) as integer)`;
const isName = sql`${leases.name} = ${value('name')}`;
const isToken = sql`${leases.token} = ${value('token')}`;

/** Gives a row if the lease is the token's afterwards. */
const takeLease: Compiled<'name' | 'token' | 'leaseMs'> = compile(
  build
    .insert(leases)
    .values({ name: value('name'), token: value('token'), endsAt: sql`${now} + ${value('leaseMs')}` })
    .onConflictDoUpdate({
      target: leases.name,
      set: { token: sql`excluded.token`, endsAt: sql`excluded.ends_at` },
      setWhere: sql`${leases.token} = excluded.token or ${leases.endsAt} <= ${now}`,
    })
    .returning(columns(leases.name)),
);

/** Gives a row if the lease was the token's, and had not ended. */
const extendLease: Compiled<'name' | 'token' | 'leaseMs'> = compile(
  build
    .update(leases)
    .set({ endsAt: sql`${now} + ${value('leaseMs')}` })
    .where(sql`${isName} and ${isToken} and ${leases.endsAt} > ${now}`)
    .returning(columns(leases.name)),
);

const releaseLease: Compiled<'name' | 'token'> = compile(
  build.delete(leases).where(sql`${isName} and ${isToken}`),
);

/** A scan, but of a small table: a lease that is released leaves no row. */
const deleteEnded: Compiled<'olderThanMs'> = compile(
  build.delete(leases).where(sql`${leases.endsAt} < ${now} - ${value('olderThanMs')}`),
);

/** One name: a look at the table, however large. */
const selectNone: Compiled = compile(
  build
    .select(columns(leases.name))
    .from(leases)
    .where(sql`${leases.name} = ''`),
);

/** The leases in any driver of SQLite's dialect. They close with the executor. */
export function createLeaseStore(executor: SqliteExecutor, description: string): LeaseStore {
  /** @returns whether it gave a row */
  const run = (operation: string, statement: () => SqliteStatement): Promise<boolean> =>
    inOperation(`Lease operation ${operation}`, async () => (await executor.execute(statement())).length > 0);

  return {
    description,
    take: (name, token, leaseMs) =>
      run('take', () => takeLease({ name, token, leaseMs: whole('lease', leaseMs) })),
    extend: (name, token, leaseMs) =>
      run('extend', () => extendLease({ name, token, leaseMs: whole('lease', leaseMs) })),
    release: async (name, token) => {
      await run('release', () => releaseLease({ name, token }));
    },
    removeEnded: async (olderThanMs) => {
      await run('removeEnded', () => deleteEnded({ olderThanMs: whole('time', olderThanMs) }));
    },
    ping: async () => {
      await run('ping', () => selectNone({}));
    },
  };
}
