import type { Command } from 'commander';
import { write } from './context.ts';
import type { CliContext } from './context.ts';
import { requireFiles } from './required-files.ts';
import { addSettingsFlags, configOf } from './settings-flags.ts';
import { tableOf } from './table.ts';

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
  await write(context.stdout, tableOf(rows));

  await requireFiles(config);
}
