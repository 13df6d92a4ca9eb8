import { access, constants } from 'node:fs/promises';
import type { Config } from '../config/config.ts';
import { Failure } from './failure.ts';
import { counted } from './settings-flags.ts';

/**
 * Makes sure that the files which the configuration names can be read.
 *
 * @throws Failure with all that cannot, each by the name of its setting
 */
export async function requireFiles(config: Config): Promise<void> {
  const problems = await unreadableFiles(config);
  if (problems.length === 0) return;
  throw new Failure(`The configuration has ${counted(problems.length, 'problem')}:\n${problems.join('\n')}`);
}

async function unreadableFiles(config: Config): Promise<readonly string[]> {
  const files: readonly (readonly [string, string | null])[] = [
    ['SNOWCAP_NETRC_FILE', config.netrcFile],
    ['SNOWCAP_CA_FILE', config.caFile],
    ['SNOWCAP_SECRET_KEY_FILE', config.secretKeys.kind === 'file' ? config.secretKeys.path : null],
  ];
  const problems: string[] = [];
  for (const [name, path] of files) {
    if (path === null) continue;
    try {
      await access(path, constants.R_OK);
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
      problems.push(`  ${name}: expected a file that can be read (${code}), given ${JSON.stringify(path)}`);
    }
  }
  return problems;
}
