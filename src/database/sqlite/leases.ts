import { sql } from 'drizzle-orm';
import type { LeaseStore } from '../lease-store.ts';
import { type Compiled, value } from '../compile.ts';
import { createLeases } from '../leases.ts';
import { build, columns, compile } from './compile.ts';
import type { SqliteExecutor } from './executor.ts';
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
  return createLeases(
    {
      takeLease: (values) => executor.execute(takeLease(values)),
      extendLease: (values) => executor.execute(extendLease(values)),
      releaseLease: (values) => executor.execute(releaseLease(values)),
      removeEndedLeases: (values) => executor.execute(deleteEnded(values)),
      selectNoLease: () => executor.execute(selectNone({})),
    },
    description,
  );
}
