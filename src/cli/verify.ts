import { writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import type { VerifyReport } from '../cache/verify/report.ts';
import { type CliContext, write } from './context.ts';
import { Failure } from './failure.ts';
import { untilInterrupted } from './interrupt.ts';
import { parseBytesPerSecond, parseConcurrency, parseHours } from './numbers.ts';
import { createProgress, formatBytes } from './progress.ts';
import { addSettingsFlags, configOf, counted } from './settings-flags.ts';
import { withServices } from './with-services.ts';

/** `snowcap verify` */
export function registerVerify(program: Command, context: CliContext): void {
  addSettingsFlags(program.command('verify'))
    .description(
      'compare index, storage and content; ends with 0 where nothing is wrong, or all was put right, 1 where ' +
        'something is, 3 where it did not come to its end (run it again: it goes on)',
    )
    .option('--repair', 'put right what can be')
    .option('--dry-run', 'change nothing; so it is without --repair too')
    .option('--remove-untrusted', 'with --repair: also remove what no trusted key vouches for')
    .option('--content', 'read every body, and check its hashes and its structure')
    .option('--grace <hours>', 'leave what nobody claims alone for so long', parseHours, parseHours('24'))
    .option('--concurrency <number>', 'so much at once', parseConcurrency, 8)
    .option('--bandwidth <size>', 'read at most so many bytes a second, as 50M', parseBytesPerSecond)
    .option('--restart', 'begin anew, where an earlier run did not come to its end')
    .option('--json <file>', 'write the report to a file, or to the standard output with -')
    .action((options: VerifyFlags, command: Command) => verify(options, command, context));
}

interface VerifyFlags {
  readonly repair?: true;
  readonly dryRun?: true;
  readonly removeUntrusted?: true;
  readonly content?: true;
  readonly grace: number;
  readonly concurrency: number;
  readonly bandwidth?: number;
  readonly restart?: true;
  readonly json?: string;
}

/** For cron: nothing is known yet. */
const UNFINISHED = 3;

async function verify(flags: VerifyFlags, command: Command, context: CliContext): Promise<void> {
  const { config } = await configOf(command, context);
  const { verifyCache } = await import('../cache/verify/verify.ts');
  const progress = createProgress(context.stderr);
  const report = await withServices(config, context, ({ services }) =>
    verifyCache(services, {
      repair: flags.repair === true && flags.dryRun !== true,
      removeUntrusted: flags.removeUntrusted === true,
      content: flags.content === true,
      graceMs: flags.grace,
      concurrency: flags.concurrency,
      bytesPerSecond: flags.bandwidth ?? null,
      restart: flags.restart === true,
      signal: untilInterrupted(),
      onProgress: (report, phase) => progress.show(`${phase}: ${checkedText(report)}`),
    }),
  )
    .catch((cause: unknown) => {
      throw new Failure('It could not be verified to the end: run it again to go on', {
        cause,
        exitCode: UNFINISHED,
      });
    })
    .finally(() => progress.end());
  const json = `${JSON.stringify(report, null, 2)}\n`;
  if (flags.json === '-') await write(context.stdout, json);
  else await write(context.stdout, textOf(report));
  if (flags.json !== undefined && flags.json !== '-') await writeFile(flags.json, json);
  if (!report.finished) {
    throw new Failure('It did not come to its end: run it again to go on', { exitCode: UNFINISHED });
  }
  if (report.remaining > 0) {
    const hint = report.repair ? '' : '; --repair puts right what can be';
    throw new Failure(`${counted(report.remaining, 'fault')}${hint}`);
  }
}

function textOf(report: VerifyReport): string {
  const lines = report.findings.map(
    ({ kind, about, detail, repaired }) => `${repaired ? 'repaired  ' : ''}${kind}  ${about}  ${detail}`,
  );
  const total = Object.values(report.found).reduce((sum, count) => sum + count, 0);
  if (lines.length < total) lines.push(`… and ${total - lines.length} more`);
  lines.push(`${checkedText(report)}; ${total === 0 ? 'nothing found' : `${total} found`}`);
  return `${lines.join('\n')}\n`;
}

function checkedText({ checked, content }: VerifyReport): string {
  const { nars, objects, bodies, bytes } = checked;
  const read = content ? `, ${bodies} read (${formatBytes(bytes)})` : '';
  return `${counted(nars, 'NAR')} and ${counted(objects, 'object')} checked${read}`;
}
