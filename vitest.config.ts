import { defineConfig } from 'vitest/config';
import type { ViteUserConfig } from 'vitest/config';
import type { Reporter } from 'vitest/node';

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
} as const;

/** The suites in which Nix copies the closure, which is made once for all of their files. */
const WITH_CLOSURE: readonly string[] = ['conformance', 'runtime'];

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
    maxWorkers: 2,
    reporters: [skippedTests, 'default', totals],
    projects: Object.entries(SUITES).map(([name, testTimeout]) => ({
      extends: true,
      test: {
        name,
        include: [`test/${name}/**/*.test.ts`],
        testTimeout,
        hookTimeout: Math.max(60_000, testTimeout),
        teardownTimeout: 20_000,
        globalSetup: WITH_CLOSURE.includes(name) ? ['test/support/closure-setup.ts'] : [],
      },
    })),
  },
});

export default config;
