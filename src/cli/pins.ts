import type { Command } from 'commander';
import type { Progress } from '../cache/look-up-closure.ts';
import { type CliContext, write } from './context.ts';
import { Failure } from './failure.ts';
import { untilInterrupted } from './interrupt.ts';
import { parseExpiry } from './numbers.ts';
import { createProgress, formatBytes } from './progress.ts';
import { addSettingsFlags, configOf, counted } from './settings-flags.ts';
import { formatTime, tableOf } from './table.ts';
import { withCache } from './with-cache.ts';

/** `snowcap pin`, `snowcap unpin` and `snowcap pins` */
export function registerPins(program: Command, context: CliContext): void {
  addSettingsFlags(program.command('pin'))
    .description('keep a store path and all that it refers to, whatever else has to go')
    .argument('<name>', 'name of the pin; one of the same name is replaced')
    .argument('<path>', 'a full store path')
    .option('--expires <days>', 'end by itself, as 30d', parseExpiry)
    .option('--fetch', 'download what is not stored yet')
    .action((name: string, path: string, options: PinFlags, command: Command) =>
      pin(name, path, options, command, context),
    );
  addSettingsFlags(program.command('unpin'))
    .description('keep the paths of a pin no longer')
    .argument('<name>', 'name of the pin')
    .action((name: string, _options: unknown, command: Command) => unpin(name, command, context));
  addSettingsFlags(program.command('pins'))
    .description('list the pins')
    .option('--json', 'as JSON')
    .action((options: { json?: true }, command: Command) => list(options.json === true, command, context));
}

interface PinFlags {
  readonly expires?: number;
  readonly fetch?: boolean;
}

async function pin(
  name: string,
  storePath: string,
  { expires, fetch = false }: PinFlags,
  command: Command,
  context: CliContext,
): Promise<void> {
  const { config } = await configOf(command, context);
  const progress = createProgress(context.stderr);
  const signal = untilInterrupted();
  const showing = (what: string) => ({
    signal,
    onProgress: ({ done, total }: Progress) => progress.show(`${what}: ${done} of ${total}`),
  });
  const { put, fetched } = await withCache(config, context, async ({ cache, platform }) => {
    const expiresAt = expires === undefined ? null : platform.clock.now() + expires;
    const put = await cache.pins.put({ name, storePath, expiresAt }, showing('paths'));
    return { put, fetched: fetch ? await cache.pins.fetch(name, showing('NARs')) : null };
  }).finally(() => progress.end());

  const { paths, absentPaths, presentBytes } = put.pin;
  const lines = [`pinned ${counted(paths, 'path')}, ${formatBytes(presentBytes)} stored`];
  if (fetched !== null) lines.push(`${counted(fetched.stored, 'NAR')} downloaded`);
  else if (absentPaths > 0)
    lines.push(`${counted(absentPaths, 'path')} not stored yet: --fetch downloads them`);
  if (put.exceedsLimit) {
    lines.push(
      `pins take ${formatBytes(put.pinnedBytes)}, more than SNOWCAP_MAX_SIZE: nothing else can be kept`,
    );
  }
  await write(context.stdout, `${lines.join('\n')}\n`);
  const problems = [
    ...put.missing.map((hash) => `no source has ${hash}`),
    ...(fetched?.failed ?? []).map(([key, reason]) => `${key}: ${reason}`),
  ];
  if (problems.length > 0) throw new Failure(`The closure is not whole:\n  ${problems.join('\n  ')}`);
}

async function unpin(name: string, command: Command, context: CliContext): Promise<void> {
  const { config } = await configOf(command, context);
  const was = await withCache(config, context, ({ cache }) => cache.pins.delete(name));
  if (!was) throw new Failure(`There is no pin ${JSON.stringify(name)}`);
  await write(context.stdout, `unpinned ${name}\n`);
}

async function list(json: boolean, command: Command, context: CliContext): Promise<void> {
  const { config } = await configOf(command, context);
  const pins = await withCache(config, context, ({ cache }) => cache.pins.list());
  if (json) return await write(context.stdout, `${JSON.stringify(pins, null, 2)}\n`);
  const rows = pins.map((pin) => [
    pin.name,
    String(pin.paths),
    formatBytes(pin.presentBytes),
    String(pin.absentPaths + pin.unknownPaths),
    formatTime(pin.expiresAt),
    pin.storePath,
  ]);
  await write(context.stdout, tableOf([['NAME', 'PATHS', 'STORED', 'MISSING', 'EXPIRES', 'ROOT'], ...rows]));
}
