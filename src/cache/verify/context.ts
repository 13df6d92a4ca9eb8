import type { BackgroundVerification } from '../fill/background-verification.ts';
import { StorageError } from '../../storage/blob-store.ts';
import type { CacheServices } from '../services.ts';
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
  /** Looks in a row at which the storage was at fault. */
  faults: number;
  readonly turns: Turns;
  /** For what takes a lock: rows that are looked at together would hold it against each other. */
  readonly lockTurn: Turns;
  /** Waits until so many bytes may be read. */
  pace(bytes: number): Promise<void>;
  readonly signal: AbortSignal | undefined;
}

/** So many faults, one after the other, and the storage is at fault, not the objects. */
const MOST_FAULTS = 10;

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
    context.faults = 0;
  } catch (error) {
    if (!(error instanceof StorageError) || context.signal?.aborted === true) throw error;
    context.faults += 1;
    if (context.faults >= MOST_FAULTS) throw error;
    if (await isStill()) await found(context, 'unreadable', about, error.message);
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
