import type { Command } from 'commander';
import { isStorePathHash, parseStorePath } from '../nix/store-path.ts';
import { FormatError } from '../nix/format-error.ts';
import { type CliContext, write } from './context.ts';
import { Failure, UsageFailure } from './failure.ts';
import { formatBytes } from './progress.ts';
import { addSettingsFlags, configOf, counted } from './settings-flags.ts';
import { formatTime, tableOf } from './table.ts';
import { withCache } from './with-cache.ts';

const PATHS = 'full store paths, or their hash parts';

/** `snowcap delete`, `snowcap unban` and `snowcap bans` */
export function registerDelete(program: Command, context: CliContext): void {
  addSettingsFlags(program.command('delete'))
    .description('remove store paths; an upstream may give them again, unless they are banned')
    .argument('<paths...>', PATHS)
    .option('--ban', 'they are not to come back')
    .option('--reason <text>', 'why they are banned', 'banned by hand')
    .option('--force', 'also what a pin keeps, or what pushed paths refer to')
    .action((paths: readonly string[], options: DeleteFlags, command: Command) =>
      remove(paths, options, command, context),
    );
  addSettingsFlags(program.command('unban'))
    .description('let store paths come back')
    .argument('<paths...>', PATHS)
    .action((paths: readonly string[], _options: unknown, command: Command) =>
      unban(paths, command, context),
    );
  addSettingsFlags(program.command('bans'))
    .description('list the paths that are banned')
    .option('--json', 'as JSON')
    .action((options: { json?: true }, command: Command) => list(options.json === true, command, context));
}

interface DeleteFlags {
  readonly ban?: boolean;
  readonly reason: string;
  readonly force?: boolean;
}

async function remove(
  paths: readonly string[],
  { ban = false, reason, force = false }: DeleteFlags,
  command: Command,
  context: CliContext,
): Promise<void> {
  const { config } = await configOf(command, context);
  const hashes = paths.map((path) => hashOf(path, config.storeDir));
  const problems: string[] = [];
  const lines = await withCache(config, context, async ({ cache }) => {
    const said: string[] = [];
    for (const hash of hashes) {
      const removed = await cache.removals.remove(hash, { force, ...(ban ? { ban: { reason } } : {}) });
      switch (removed.kind) {
        case 'removed':
          said.push(`removed ${removed.storePath}, ${formatBytes(removed.bytes)} freed`);
          break;
        case 'unknown':
          if (!ban) problems.push(`${hash} is not known here`);
          break;
        case 'kept':
          problems.push(
            `${removed.storePath} is kept by a pin, or pushed paths refer to it: --force removes it`,
          );
          continue;
      }
      if (ban) said.push(`banned ${hash}`);
    }
    return said;
  });
  if (lines.length > 0) await write(context.stdout, `${lines.join('\n')}\n`);
  if (problems.length > 0) throw new Failure(problems.join('\n'));
}

async function unban(paths: readonly string[], command: Command, context: CliContext): Promise<void> {
  const { config } = await configOf(command, context);
  const hashes = paths.map((path) => hashOf(path, config.storeDir));
  const unknown = await withCache(config, context, async ({ cache }) => {
    const none: string[] = [];
    for (const hash of hashes) if (!(await cache.removals.unban(hash))) none.push(hash);
    return none;
  });
  if (unknown.length > 0) throw new Failure(`not banned: ${unknown.join(' ')}`);
  await write(context.stdout, `${counted(hashes.length, 'path')} may come back\n`);
}

async function list(json: boolean, command: Command, context: CliContext): Promise<void> {
  const { config } = await configOf(command, context);
  const bans = await withCache(config, context, ({ cache }) => cache.removals.bans());
  if (json) return await write(context.stdout, `${JSON.stringify(bans, null, 2)}\n`);
  const rows = bans.map(({ storePath, at, reason }) => [storePath, formatTime(at), reason]);
  await write(context.stdout, tableOf([['PATH', 'BANNED', 'REASON'], ...rows]));
}

/** @throws UsageFailure */
function hashOf(text: string, storeDir: string): string {
  if (isStorePathHash(text)) return text;
  try {
    return parseStorePath(text, storeDir).hash;
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new UsageFailure(`${JSON.stringify(text)} is no store path and no hash part: ${error.why}`);
  }
}
