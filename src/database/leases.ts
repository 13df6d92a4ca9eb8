import type { LeaseStore } from './lease-store.ts';
import { inOperation } from './operation.ts';
import { type Row, whole } from './rows.ts';

type Lease = { readonly name: string; readonly token: string };
type Rows = Promise<readonly Row[]>;

/** The leases in one dialect of SQL: one statement or one atomic batch each, by the clock of the database. */
export interface LeaseQueries {
  /** A row if the lease is the token's afterwards. */
  takeLease(values: Lease & { readonly leaseMs: number }): Rows;
  /** A row if it was the token's and had not ended. */
  extendLease(values: Lease & { readonly leaseMs: number }): Rows;
  releaseLease(values: Lease): Rows;
  removeEndedLeases(values: { readonly olderThanMs: number }): Rows;
  /** Looks at the table, however large. */
  selectNoLease(): Rows;
}

/** The leases over the queries of any dialect. They close with what runs them. */
export function createLeases(queries: LeaseQueries, description: string): LeaseStore {
  /** @returns whether it gave a row */
  const run = (operation: string, query: () => Rows): Promise<boolean> =>
    inOperation(`Lease operation ${operation}`, async () => (await query()).length > 0);

  return {
    description,
    take: (name, token, leaseMs) =>
      run('take', () => queries.takeLease({ name, token, leaseMs: whole('lease', leaseMs) })),
    extend: (name, token, leaseMs) =>
      run('extend', () => queries.extendLease({ name, token, leaseMs: whole('lease', leaseMs) })),
    release: async (name, token) => {
      await run('release', () => queries.releaseLease({ name, token }));
    },
    removeEnded: async (olderThanMs) => {
      await run('removeEnded', () => queries.removeEndedLeases({ olderThanMs: whole('time', olderThanMs) }));
    },
    ping: async () => {
      await run('ping', () => queries.selectNoLease());
    },
  };
}
