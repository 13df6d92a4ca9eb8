import { describe } from 'vitest';
import type { BlobStore } from '../../../src/storage/blob-store.ts';
import { testListing } from './listing.ts';
import { testReading } from './reading.ts';
import { testWriting } from './writing.ts';

/** A fresh, empty store for one test. */
export interface BlobStoreSubject {
  readonly store: BlobStore;
  /** What unfinished or failed writes left behind, as the driver's own tools see it; absent where there is no such place. */
  leftovers?(): Promise<readonly string[]>;
  /** What is open for reads and writes under way, as a number of things. @default the descriptors of this process */
  held?(): number;
  cleanup(): Promise<void>;
}

/** What a driver cannot do: the reason, which its skipped tests show. */
export interface UnsupportedFeatures {
  /** Sources of kind `file`. */
  readonly fileSource?: string;
  /** `put` with `ifAbsent` that exactly one of several writers wins. */
  readonly ifAbsent?: string;
}

/** A driver under the contract of `BlobStore`. */
export interface BlobStoreContract {
  readonly name: string;
  create(): Promise<BlobStoreSubject>;
  readonly unsupported?: UnsupportedFeatures;
}

/** Every promise of the doc comments of `BlobStore`, as tests of one driver. */
export function testBlobStore(contract: BlobStoreContract): void {
  describe(`BlobStore: ${contract.name}`, () => {
    testReading(contract);
    testWriting(contract);
    testListing(contract);
  });
}
