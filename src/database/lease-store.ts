/**
 * Leases as rows of the index: what locks fall back on where there is no lock service. One row a name, with the token
 * of its holder and the time at which it ends.
 *
 * What every driver promises, and the contract suite checks:
 * - Each method is one atomic statement or batch.
 * - Time is the database's own clock: those of the instances may differ.
 * - What goes wrong is thrown as `MetadataError`; every method may be retried with the same token.
 */
export interface LeaseStore {
  /** For logs, without any secret, as `postgres:db.example/snowcap`. */
  readonly description: string;

  /**
   * Takes the lease if nobody holds it, if it has ended, or if it is this token's already (a retry of a request whose
   * answer was lost); it then ends `leaseMs` from now. Returns whether it is this token's.
   */
  take(name: string, token: string, leaseMs: number): Promise<boolean>;

  /** Lets the lease end `leaseMs` from now, if it is still this token's and has not ended. Returns whether it was. */
  extend(name: string, token: string, leaseMs: number): Promise<boolean>;

  /** Gives the lease up if it is this token's; else nothing happens. */
  release(name: string, token: string): Promise<void>;

  /** Removes rows that ended more than `olderThanMs` ago. */
  removeEnded(olderThanMs: number): Promise<void>;

  /** Cheap proof that it can be reached. @throws MetadataError */
  ping(): Promise<void>;
}
