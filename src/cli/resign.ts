import type { Command } from 'commander';
import type { ResignReport } from '../cache/resign.ts';
import { type CliContext, write } from './context.ts';
import { Failure, UsageFailure } from './failure.ts';
import { untilInterrupted } from './interrupt.ts';
import { parseConcurrency } from './numbers.ts';
import { createProgress } from './progress.ts';
import { addSettingsFlags, configOf, counted } from './settings-flags.ts';
import { withServices } from './with-services.ts';

/** `snowcap resign` */
export function registerResign(program: Command, context: CliContext): void {
  addSettingsFlags(program.command('resign'))
    .description(
      'sign all paths with the keys of today, in the index and in the storage, after a key was added or withdrawn; ' +
        'run again after an interruption, it does what is left',
    )
    .option(
      '--drop <name...>',
      'remove the signatures of a key of this name, which must not be in use any more',
    )
    .option('--dry-run', 'change nothing; ends with code 1 if anything would be changed')
    .option('--concurrency <number>', 'so many paths at once', parseConcurrency, 16)
    .option('--json', 'print the report as JSON')
    .action((options: ResignFlags, command: Command) => run(options, command, context));
}

interface ResignFlags {
  readonly drop?: readonly string[];
  readonly dryRun?: true;
  readonly concurrency: number;
  readonly json?: true;
}

async function run(flags: ResignFlags, command: Command, context: CliContext): Promise<void> {
  const { config } = await configOf(command, context);
  const { KeyInUseError, resign } = await import('../cache/resign.ts');
  const progress = createProgress(context.stderr);
  const dryRun = flags.dryRun === true;
  let report: ResignReport;
  try {
    report = await withServices(config, context, ({ services }) =>
      resign(services, {
        drop: flags.drop ?? [],
        dryRun,
        concurrency: flags.concurrency,
        signal: untilInterrupted(),
        onProgress: (report) => progress.show(summaryOf(report, dryRun)),
      }),
    );
  } catch (error) {
    if (error instanceof KeyInUseError) throw new UsageFailure(error.message, { cause: error });
    throw error;
  } finally {
    progress.end();
  }
  const text = flags.json === true ? JSON.stringify(report, null, 2) : summaryOf(report, dryRun);
  await write(context.stdout, `${text}\n`);
  if (report.contended > 0) {
    throw new Failure(`${counted(report.contended, 'path')} changed all the while: run it again`);
  }
  if (dryRun && report.resigned + report.narInfos > 0) throw new Failure('Not all is signed as it should be');
}

function summaryOf({ paths, resigned, narInfos, untrusted }: ResignReport, dryRun: boolean): string {
  const would = dryRun ? 'to be ' : '';
  const without = untrusted === 0 ? '' : `, ${untrusted} not trusted and not signed`;
  return (
    `${counted(paths, 'path')} looked at, ${resigned} ${would}signed anew, ` +
    `${counted(narInfos, 'narinfo')} ${would}written${without}`
  );
}
