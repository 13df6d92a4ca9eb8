import type { Command } from 'commander';
import type { Config } from '../config/schema.ts';
import { write } from './context.ts';
import type { CliContext } from './context.ts';
import { Failure } from './failure.ts';
import { addSettingsFlags, configOf, counted } from './settings-flags.ts';

/** `snowcap config check` */
export function registerConfig(program: Command, context: CliContext): void {
  const config = program.command('config').description('look at the configuration');
  addSettingsFlags(config.command('check'))
    .description(
      'print the configuration that takes effect and where each value comes from; secrets are masked',
    )
    .action((_options: unknown, command: Command) => check(command, context));
}

async function check(command: Command, context: CliContext): Promise<void> {
  const { config, effective } = await configOf(command, context);
  const rows = effective.map(({ name, value, origin, source }) => [
    name,
    value === null ? '(not set)' : value === '' ? '(none)' : value,
    // The variable is named where it is another one than the setting's own.
    origin === 'default' || source === name ? origin : `${origin} (${source ?? name})`,
  ]);
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const lines = rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  '));
  await write(context.stdout, `${lines.map((line) => line.trimEnd()).join('\n')}\n`);

  const problems = await unreadableFiles(config);
  if (problems.length > 0) {
    throw new Failure(
      `The configuration has ${counted(problems.length, 'problem')}:\n${problems.join('\n')}`,
    );
  }
}

/** Files that the configuration names and that must be there before the start. */
async function unreadableFiles(config: Config): Promise<readonly string[]> {
  const { access, constants } = await import('node:fs/promises');
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
