import type { Config } from '../../config/config.ts';
import { formatProblem, loadConfig } from '../../config/load.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Where Lambda differs: a disk of 512 MB, if no more is asked for, of which the function has `/tmp`. */
const DEFAULTS = {
  SNOWCAP_SPOOL_DIR: '/tmp/snowcap/spool',
  SNOWCAP_SPOOL_LIMIT: '400M',
} as const;

/** @throws Error with every problem, one a line; holds no secret */
export async function lambdaConfig(environment: Environment): Promise<Config> {
  const loaded = await loadConfig({
    environment,
    hostname: environment['AWS_LAMBDA_FUNCTION_NAME'] ?? 'snowcap',
    terminal: false,
    runtime: 'lambda',
    defaults: DEFAULTS,
  });
  if (loaded.ok) return loaded.config;
  const problems = loaded.problems.map((problem) => `  ${formatProblem(problem)}`);
  throw new Error(`The configuration has problems:\n${problems.join('\n')}`);
}
