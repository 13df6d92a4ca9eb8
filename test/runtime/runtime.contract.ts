import { describe } from 'vitest';
import { testAnswers } from './answers.ts';
import { testBodies } from './bodies.ts';
import { testClosure } from './closure.ts';
import { testCrowds } from './crowds.ts';
import { testFaults } from './faults.ts';
import { testLargeNar } from './large.ts';
import { testRedirects } from './redirects.ts';
import { useSite } from './site.ts';

export interface RuntimeOptions {
  /** Base URLs of the upstreams, the best first. */
  readonly upstreams: readonly string[];
  /** In Nix's format. */
  readonly trustedPublicKeys: readonly string[];
  /** SNOWCAP_NAR_DELIVERY. */
  readonly delivery: 'proxy' | 'redirect' | 'auto';
  /** Further settings, `SNOWCAP_…`; they win. */
  readonly env?: Readonly<Record<string, string>>;
}

/** A Snowcap with an empty storage and an empty index, which is known by its answers alone. */
export interface RunningRuntime {
  /** As `http://127.0.0.1:1234`, without a final slash. */
  readonly url: string;
  /** What it signs with, in Nix's format. */
  readonly publicKey: string;
  /** Ends it and all that it needed. @throws Error where it ended by itself before */
  stop(): Promise<void>;
}

/** What a runtime cannot do, or its storage: the reason, which its skipped tests show. */
export interface UnsupportedByRuntime {
  /** A body is on its way to the client while the upstream still sends it. */
  readonly streaming?: string;
  /** SNOWCAP_NAR_DELIVERY=redirect leads to the storage. */
  readonly redirects?: string;
  /** Of clients that ask for one cold NAR at the same time, all are served by one download. */
  readonly sharedFills?: string;
  /** A NAR of 300 MB arrives in one answer. */
  readonly largeNar?: string;
}

/** A runtime, over certain drivers, under the suite of them all. */
export interface RuntimeContract {
  /** As `Node over files and SQLite`. */
  readonly name: string;
  start(options: RuntimeOptions): Promise<RunningRuntime>;
  /** Why it cannot run on this machine, as `skipReason` says it. */
  readonly missing?: string | null;
  /** What `auto` means for a NAR of 300 MB. */
  readonly largeNar: 'streamed' | 'redirected';
  readonly unsupported?: UnsupportedByRuntime;
}

/** What every Snowcap does, whatever it runs on, as its clients see it. */
export function testRuntime(contract: RuntimeContract): void {
  const { name, missing = null } = contract;
  describe.skipIf(missing !== null)(`A Snowcap on ${name}${missing === null ? '' : ` (${missing})`}`, () => {
    // One for all of them whose upstream is in good health: what they ask for has names and bytes of its own.
    const site = useSite(contract);
    testAnswers(site);
    testBodies(contract, site);
    testRedirects(contract);
    testFaults(contract);
    testCrowds(contract, site);
    testLargeNar(contract);
    testClosure(contract);
  });
}
