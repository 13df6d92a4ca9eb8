import { describe } from 'vitest';
import type { IndexStore } from '../../../src/database/index-store.ts';
import { testConcurrency } from './concurrency.contract.ts';
import { testGraph } from './graph.contract.ts';
import { testModel } from './model.contract.ts';
import { testNars } from './nars.contract.ts';
import { testPaths } from './paths.contract.ts';
import { testBans, testPins } from './pins.contract.ts';
import { testEviction } from './eviction.contract.ts';
import { testEvictionRaces } from './eviction-races.contract.ts';
import { testSweeps } from './sweeps.contract.ts';

/** A driver as the suite sees it. */
export interface MetadataStoreSubject {
  readonly name: string;
  /** An empty index of its own for one test. */
  create(): Promise<IndexPlace>;
  /** Round trips to it are slow: fewer random histories and rounds will do, as it speaks the SQL of another. */
  readonly isSlow?: boolean;
  /** Why two handles cannot have one index open, for a driver where that is so. */
  readonly notShared?: string;
}

export interface IndexPlace {
  /** A handle on the index; all handles of one place share its contents. */
  open(): Promise<IndexStore>;
  /** Runs one statement behind the back of the handles, where that can be done. */
  run?(statement: string): Promise<void>;
  /** Removes it, when all handles are closed. */
  remove(): Promise<void>;
}

/** What every driver of the index promises in `metadata-store.ts`, sentence by sentence. */
export function testMetadataStore(subject: MetadataStoreSubject): void {
  describe(`The index on ${subject.name}`, () => {
    testPaths(subject);
    testNars(subject);
    testGraph(subject);
    testEviction(subject);
    testEvictionRaces(subject);
    testPins(subject);
    testBans(subject);
    testSweeps(subject);
    testConcurrency(subject);
    testModel(subject);
  });
}
