import type { Command } from 'commander';
import type { ReindexReport } from '../cache/reindex.ts';
import { type CliContext, write } from './context.ts';
import { Failure } from './failure.ts';
import { untilInterrupted } from './interrupt.ts';
import { parseConcurrency } from './numbers.ts';
import { createProgress, formatBytes } from './progress.ts';
import { addSettingsFlags, configOf, counted } from './settings-flags.ts';
import { withServices } from './with-services.ts';

/** `snowcap reindex` */
export function registerReindex(program: Command, context: CliContext): void {
  addSettingsFlags(program.command('reindex'))
    .description(
      'rebuild the index from the storage: after the database was lost, or to take over a bucket that "nix copy" made; ' +
        'run again after an interruption, it goes on',
    )
    .option('--allow-unsigned', 'take paths that no trusted key vouches for as if they had been pushed here')
    .option(
      '--no-upstreams-asked',
      'do not ask the upstreams which paths they have too, so that all count as pushed, nor for the closures of pins',
    )
    .option('--concurrency <number>', 'narinfos that are read at once', parseConcurrency, 16)
    .option('--restart', 'begin anew, where an earlier run did not come to its end')
    .option('--json', 'print the report as JSON')
    .action((options: ReindexFlags, command: Command) => run(options, command, context));
}

interface ReindexFlags {
  readonly allowUnsigned?: true;
  readonly upstreamsAsked: boolean;
  readonly concurrency: number;
  readonly restart?: true;
  readonly json?: true;
}

async function run(flags: ReindexFlags, command: Command, context: CliContext): Promise<void> {
  const { config } = await configOf(command, context);
  const { reindex } = await import('../cache/reindex.ts');
  const progress = createProgress(context.stderr);
  const report = await withServices(config, context, ({ services }) =>
    reindex(services, {
      allowUnsigned: flags.allowUnsigned === true,
      confirm: flags.upstreamsAsked && config.upstreams.length > 0,
      concurrency: flags.concurrency,
      restart: flags.restart === true,
      signal: untilInterrupted(),
      onProgress: (report) => progress.show(summaryOf(report)),
    }),
  ).finally(() => progress.end());
  await write(context.stdout, flags.json === true ? `${JSON.stringify(report, null, 2)}\n` : textOf(report));
  const left = report.refused + report.withoutNar;
  if (left > 0) throw new Failure(`${counted(left, 'narinfo')} could not be taken into the index`);
}

function textOf(report: ReindexReport): string {
  const lines = report.reasons.map(([hash, reason]) => `${hash}  ${reason}`);
  const more = report.refused + report.withoutNar - lines.length;
  if (more > 0) lines.push(`… and ${more} more`);
  return `${[...lines, summaryOf(report)].join('\n')}\n`;
}

function summaryOf(report: ReindexReport): string {
  const { narInfos, adopted, known, confirmed, bytes, pins, bans } = report;
  return (
    `${counted(narInfos, 'narinfo')} read, ${adopted} adopted (${formatBytes(bytes)}), ${known} known, ` +
    `${confirmed} confirmed by upstreams, ${counted(pins, 'pin')}, ${counted(bans, 'ban')}`
  );
}
