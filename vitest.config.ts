import { cloudflareTest } from '@cloudflare/vitest-plugin';
import { defineConfig } from 'vitest/config';
import type { ViteUserConfig } from 'vitest/config';
import type { Reporter } from 'vitest/node';
import { runTool } from './test/support/workerd-tools.ts';

const [major = 0] = process.versions.node.split('.').map(Number);
if (major < 24) {
  throw new Error(
    `Tests need Node 24 or newer, this is ${process.versions.node}: use npm test, or npx vitest`,
  );
}

/**
 * The suites, one folder of `test/` each, with the milliseconds that one test of theirs may take. A limit is there
 * to end a test that hangs, so it leaves room for a machine of two slow cores.
 */
const SUITES = {
  unit: 20_000,
  contract: 30_000,
  laws: 120_000,
  conformance: 300_000,
  runtime: 300_000,
  workerd: 120_000,
  fleet: 300_000,
} as const;

/** Files of other suites that a suite runs too. */
const MORE_FILES: Readonly<Record<string, readonly string[]>> = {
  // What knows no runtime must do the same in each: formats, decoders, and the core where it is tested over fakes.
  workerd: [
    'test/unit/nix/!(nix-interop).test.ts',
    'test/unit/nar/{reader,listing,digest}.test.ts',
    'test/unit/cache/{budget,flight,streams,wait-for-other}.test.ts',
    'test/unit/server/{answer,conditions,observe}.test.ts',
    'test/unit/upstream/{find-nar-info,nar-info-race,netrc,open-nar,retries-and-circuit,upstream-url}.test.ts',
  ],
};

/** What some suites need once, before their first test. */
const SETUPS: Readonly<Record<string, readonly string[]>> = {
  conformance: ['test/support/closure-setup.ts'],
  runtime: ['test/support/closure-setup.ts', 'test/support/bundles-setup.ts'],
  fleet: ['test/support/bundles-setup.ts'],
  workerd: ['test/support/workerd-setup.ts'],
};

/**
 * The suite `workerd` runs inside the runtime of Cloudflare Workers, module by module, with a local bucket and a
 * local database. It needs no account, its Workers have no network, and nothing is written outside the temporary
 * directory.
 */
const workerd = cloudflareTest({
  // Else each connection that a test breaks is logged with a stack of the runtime's.
  verbose: false,
  miniflare: {
    compatibilityDate: '2026-11-02',
    compatibilityFlags: ['nodejs_compat'],
    r2Buckets: ['BUCKET'],
    d1Databases: ['DB'],
    modulesRules: [{ type: 'CompiledWasm', include: ['**/*.wasm'] }],
    serviceBindings: { TOOLS: runTool },
    outboundService: () => new Response('The tests have no network', { status: 599 }),
  },
});

/** Lists at the end every test that did not run, with the reason given to `skip`: a skip must not pass unseen. */
const skippedTests: Reporter = {
  onTestRunEnd(modules) {
    const lines: string[] = [];
    for (const module of modules) {
      for (const test of module.children.allTests('skipped')) {
        const result = test.result();
        const note = result.state === 'skipped' ? result.note : undefined;
        lines.push(`  ${module.relativeModuleId} > ${test.fullName}: ${note ?? 'no reason given'}`);
      }
    }
    if (lines.length > 0) process.stdout.write(`\nSkipped:\n${lines.join('\n')}\n`);
  },
};

/** Says why a test was tried again that passed in the end: where it happens often, the test or what it tests is wrong. */
const triedAgain: Reporter = {
  onTestCaseResult(test) {
    const { retryCount = 0 } = test.diagnostic() ?? {};
    const { state, errors = [] } = test.result();
    if (retryCount === 0 || state !== 'passed') return;
    const lines = errors.flatMap(({ message, stack = message, diff = '' }) => [
      ...stack.split('\n', 3),
      ...diff.split('\n', 30),
    ]);
    const name = `${test.module.relativeModuleId} > ${test.fullName}`;
    process.stdout.write(`Tried again: ${name}\n${lines.map((line) => `  ${line}\n`).join('')}`);
  },
};

/** The totals in one plain line, for logs and those who search them. */
const totals: Reporter = {
  onTestRunEnd(modules) {
    const counts = { passed: 0, failed: 0, skipped: 0, pending: 0 };
    for (const module of modules) {
      for (const test of module.children.allTests()) counts[test.result().state] += 1;
    }
    const { passed, failed, skipped } = counts;
    process.stdout.write(`Tests: ${passed} passed, ${failed} failed, ${skipped} skipped\n`);
  },
};

const config: ViteUserConfig = defineConfig({
  test: {
    environment: 'node',
    pool: 'forks',
    // One more than CI has cores: a file with its servers takes three quarters of one, and waits for the rest.
    maxWorkers: 3,
    reporters: [skippedTests, triedAgain, 'default', totals],
    projects: Object.entries(SUITES).map(([name, testTimeout]) => ({
      extends: true,
      plugins: name === 'workerd' ? [workerd] : [],
      test: {
        name,
        // Five instances and their servers want the machine for themselves: one file after the other, when all else is over.
        // On two cores a server may still be late by more than the time that is allowed to it: such a test is tried again, twice.
        ...(name === 'fleet' ? { maxWorkers: 1, sequence: { groupOrder: 1 }, retry: 2 } : {}),
        // A runtime for each file would take longer to start than the tests.
        isolate: name !== 'workerd',
        include: [`test/${name}/**/*.test.ts`, ...(MORE_FILES[name] ?? [])],
        testTimeout,
        hookTimeout: Math.max(60_000, testTimeout),
        teardownTimeout: 20_000,
        globalSetup: [...(SETUPS[name] ?? [])],
      },
    })),
  },
});

export default config;
