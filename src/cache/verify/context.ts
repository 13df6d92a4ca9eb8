import type { BackgroundVerification } from '../fill/background-verification.ts';
import type { CacheServices } from '../services.ts';
import type { StorageFaults } from '../storage-faults.ts';
import type { Turns } from '../turns.ts';
import type { Findings, FindingKind } from './report.ts';

/** What the parts of a verification share. */
export interface VerifyContext {
  readonly services: CacheServices;
  readonly verification: Pick<BackgroundVerification, 'verify' | 'remove'>;
  readonly findings: Findings;
  readonly repair: boolean;
  readonly content: boolean;
  /** Objects younger than this (milliseconds since the epoch of their writing) may be of writes under way. */
  readonly olderThan: number;
  /** Remove narinfos that no trusted key vouches for, too. */
  readonly removeUntrusted: boolean;
  /** Narinfos of unknown paths that were left as they are: too young, or not trusted. Unclaimed bodies may be theirs. */
  readonly left: number;
  leave(): void;
  readonly faults: StorageFaults;
  readonly turns: Turns;
  /** For what takes a lock: rows that are looked at together would hold it against each other. */
  readonly lockTurn: Turns;
  /** Waits until so many bytes may be read. */
  pace(bytes: number): Promise<void>;
  readonly signal: AbortSignal | undefined;
}

/**
 * Looks at one thing. That the storage cannot read it is a finding: a bad sector must not keep the rest from being
 * looked at.
 *
 * @param isStill whether it is there still as it was, once it could not be read
 * @throws StorageError where nothing can be read any more; what else the look throws
 */
export async function looking(
  context: VerifyContext,
  about: string,
  look: () => Promise<void>,
  isStill: () => Promise<boolean> = () => Promise.resolve(true),
): Promise<void> {
  try {
    await look();
    context.faults.none();
  } catch (error) {
    const fault = context.faults.of(error);
    if (fault === null || context.signal?.aborted === true) throw error;
    if (await isStill()) await found(context, 'unreadable', about, fault.message);
  }
}

/**
 * Notes a finding, and puts it right where that is wanted and there is a way.
 *
 * @param repair returns whether it was put right; absent where there is no way
 */
export async function found(
  { findings, repair: wanted, services }: VerifyContext,
  kind: FindingKind,
  about: string,
  detail: string,
  repair?: () => Promise<unknown>,
): Promise<void> {
  let repaired = false;
  if (wanted && repair !== undefined) {
    try {
      await services.platform.checkpoint?.('verify:repair');
      repaired = (await repair()) !== false;
    } catch (error) {
      services.platform.logger.error('A finding could not be put right', { kind, about, error });
    }
  }
  findings.add({ kind, about, detail, repaired });
}
