import { Option } from 'commander';
import type { Command } from 'commander';
import type { Config } from '../config/config.ts';
import type { EffectiveSetting } from '../config/load.ts';
import { SETTINGS } from '../config/settings.ts';
import type { Setting, SettingName } from '../config/setting.ts';
import type { CliContext } from './context.ts';
import { Failure } from './failure.ts';

/** Gives the command one flag for each setting that has one, or for those that are named. */
export function addSettingsFlags(command: Command, names?: readonly SettingName[]): Command {
  for (const setting of SETTINGS) {
    if (names !== undefined && !names.includes(setting.name)) continue;
    if (setting.flag !== null) command.addOption(settingOption(setting, setting.flag));
  }
  return command;
}

function settingOption(setting: Setting, flag: string): Option {
  const usual = setting.defaultText ?? setting.default;
  const notes = `[${setting.name}${usual === null ? '' : `, default: ${usual}`}]`;
  const option = new Option(
    `${flag} ${setting.placeholder}`,
    `${setting.description} ${notes}`.replaceAll('`', ''),
  );
  return setting.list === true
    ? option.argParser((value: string, previous: string | undefined) =>
        previous === undefined ? value : `${previous} ${value}`,
      )
    : option;
}

/**
 * The configuration of a command out of its flags and the environment.
 *
 * @param command one that `addSettingsFlags` has prepared, or any other one for the environment alone
 * @param options.keyless for what signs nothing: a missing signing key is no problem then
 * @throws Failure with every problem, one a line
 */
export async function configOf(
  command: Command,
  context: CliContext,
  options: { readonly keyless?: boolean } = {},
): Promise<{ readonly config: Config; readonly effective: readonly EffectiveSetting[] }> {
  const { formatProblem, loadConfig } = await import('../config/load.ts');
  const loaded = await loadConfig({
    environment: context.environment,
    flags: flagsOf(command),
    hostname: context.hostname,
    terminal: context.stdout.isTTY === true,
    ...options,
  });
  if (loaded.ok) return loaded;
  const lines = loaded.problems.map((problem) => `  ${formatProblem(problem)}`);
  throw new Failure(`The configuration has ${counted(lines.length, 'problem')}:\n${lines.join('\n')}`);
}

function flagsOf(command: Command): Partial<Record<SettingName, string>> {
  const flags: Partial<Record<SettingName, string>> = {};
  for (const { name, flag } of SETTINGS) {
    const option = flag === null ? undefined : command.options.find((each) => each.long === flag);
    const value: unknown = option === undefined ? undefined : command.getOptionValue(option.attributeName());
    if (typeof value === 'string') flags[name] = value;
  }
  return flags;
}

/** `1 problem`, `2 problems` */
export function counted(count: number, noun: string, nouns: string = `${noun}s`): string {
  return `${count} ${count === 1 ? noun : nouns}`;
}
