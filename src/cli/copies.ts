import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { CopyIndexReport } from '../cache/copy-index.ts';
import type { CopyStorageReport } from '../cache/copy-storage.ts';
import type { AwsCredentials, Config } from '../config/config.ts';
import type { NodePlatform } from '../runtime/node/node-platform.ts';
import { type CliContext, write } from './context.ts';
import { Failure, UsageFailure } from './failure.ts';
import { untilInterrupted } from './interrupt.ts';
import type { CopyFlags } from './migrate-storage.ts';
import { createProgress, formatBytes } from './progress.ts';
import { counted } from './settings-flags.ts';

/** Configurations that differ in the place that is copied. */
export interface Ends {
  readonly from: Config;
  readonly to: Config;
}

/** @throws Failure where something could not be copied */
export async function copyStorageBetween(
  { from, to }: Ends,
  flags: CopyFlags,
  context: CliContext,
): Promise<void> {
  if (from.storage.kind === 'file') {
    await requireThere(from.storage.path, 'storage');
    // Before a folder is made for the target in it.
    if (to.storage.kind === 'file') requireApart(placeOf(from.storage), placeOf(to.storage));
  }
  const { openStorage } = await import('../runtime/node/open-storage.ts');
  const { copyStorage } = await import('../cache/copy-storage.ts');
  const platform = await platformOf(from, context);
  const progress = createProgress(context.stderr);
  const source = await openStorage(withCredentials(from, 'FROM', context), platform, { readOnly: true });
  try {
    const target = (await isToBeMade(to.storage, flags))
      ? (await import('../storage/memory.ts')).createMemoryStore()
      : await openStorage(withCredentials(to, 'TO', context), platform);
    try {
      requireApart(source.description, target.description);
      const report = await copyStorage(source, target, {
        platform,
        storeDir: from.storeDir,
        content: flags.content === true,
        dryRun: flags.dryRun === true,
        concurrency: flags.concurrency,
        bytesPerSecond: flags.bandwidth ?? null,
        signal: untilInterrupted(),
        onProgress: (report) => progress.show(storageText(report, flags)),
      });
      progress.end();
      await write(context.stdout, flags.json === true ? json(report) : storageReport(report, flags));
      const left = report.vanished + report.wrong + report.failed;
      if (left > 0)
        throw new Failure(`${counted(left, 'object')} could not be copied: look at them, and run it again`);
      if (report.objects === 0) {
        throw new Failure(`There is nothing in ${source.description}: look whether it is the right place`);
      }
      if (flags.dryRun !== true && flags.json !== true) {
        await write(
          context.stdout,
          `All is in ${target.description}. Next: run this again for what came meanwhile, set SNOWCAP_STORAGE to it, and run "snowcap verify"\n`,
        );
      }
    } finally {
      await target.close();
    }
  } finally {
    progress.end();
    await source.close();
  }
}

/** @throws Failure where the copy cannot begin, or differs */
export async function copyDatabase({ from, to }: Ends, flags: CopyFlags, context: CliContext): Promise<void> {
  if (from.database.kind === 'sqlite') await requireThere(from.database.path, 'index');
  const { openDatabase } = await import('../runtime/node/open-database.ts');
  const { copyIndex, CopyIndexError } = await import('../cache/copy-index.ts');
  const platform = await platformOf(from, context);
  const progress = createProgress(context.stderr);
  const source = await openDatabase(from, platform);
  try {
    const target = await openDatabase(
      (await isToBeMade(to.database, flags)) ? { ...to, database: { kind: 'sqlite', path: ':memory:' } } : to,
      platform,
    );
    try {
      requireApart(source.description, target.description);
      const report = await copyIndex(source, target, {
        platform,
        dryRun: flags.dryRun === true,
        signal: untilInterrupted(),
        onProgress: (report) => progress.show(indexText(report, flags)),
      });
      progress.end();
      await write(context.stdout, flags.json === true ? json(report) : `${indexText(report, flags)}\n`);
      if (flags.dryRun !== true && flags.json !== true) {
        await write(
          context.stdout,
          `All is in ${target.description}. Next: set SNOWCAP_DATABASE to it, and run "snowcap verify"\n`,
        );
      }
    } catch (error) {
      if (error instanceof CopyIndexError) throw new Failure(error.message, { cause: error });
      throw error;
    } finally {
      await target.close();
    }
  } finally {
    progress.end();
    await source.close();
  }
}

async function platformOf(config: Config, context: CliContext): Promise<NodePlatform> {
  const [{ createPinoLogger }, { createNodePlatform }, { noMetrics }] = await Promise.all([
    import('../telemetry/pino-logger.ts'),
    import('../runtime/node/node-platform.ts'),
    import('../telemetry/metrics.ts'),
  ]);
  const logger = await createPinoLogger({
    level: config.logLevel === 'info' ? 'warn' : config.logLevel,
    format: config.logFormat,
    destination: context.stderr,
  });
  return createNodePlatform(logger, noMetrics);
}

/** Opening would make an empty one. @throws Failure */
async function requireThere(path: string, what: string): Promise<void> {
  try {
    await stat(path);
  } catch (cause) {
    throw new Failure(`There is no ${what} at ${JSON.stringify(path)}`, { cause });
  }
}

/** Whether opening a target would make it, in a run that is to change nothing. */
async function isToBeMade(
  place: Config['storage'] | Config['database'],
  { dryRun }: CopyFlags,
): Promise<boolean> {
  if (dryRun !== true || !('path' in place)) return false;
  return await stat(place.path).then(
    () => false,
    () => true,
  );
}

function placeOf({ path }: { readonly path: string }): string {
  return `file:${resolve(path)}`;
}

/**
 * What is copied into a part of its source is found there again, and copied again by each run, or in a large one for ever.
 *
 * @param from as `BlobStore.description`
 * @throws UsageFailure
 */
function requireApart(from: string, to: string): void {
  if (from === to) throw new UsageFailure(`FROM and TO are the same, ${from}`);
  const [outer = '', server] = from.startsWith('s3:') ? from.split(' at ') : [from];
  const [inner = '', other] = to.startsWith('s3:') ? to.split(' at ') : [to];
  if (server === other && inner.startsWith(`${outer}/`)) {
    throw new UsageFailure(`TO, ${to}, is a part of FROM, ${from}: give a place outside of it`);
  }
}

/** Keys that are for one of the two alone. @throws UsageFailure for half a pair */
function withCredentials(config: Config, which: 'FROM' | 'TO', { environment }: CliContext): Config {
  const accessKeyId = environment[`${which}_AWS_ACCESS_KEY_ID`] ?? '';
  const secretAccessKey = environment[`${which}_AWS_SECRET_ACCESS_KEY`] ?? '';
  if (accessKeyId === '' && secretAccessKey === '') return config;
  if (accessKeyId === '' || secretAccessKey === '') {
    throw new UsageFailure(
      `${which}_AWS_ACCESS_KEY_ID and ${which}_AWS_SECRET_ACCESS_KEY belong together: set both, or none`,
    );
  }
  const sessionToken = environment[`${which}_AWS_SESSION_TOKEN`] ?? '';
  const awsCredentials: AwsCredentials = {
    accessKeyId,
    secretAccessKey,
    sessionToken: sessionToken === '' ? null : sessionToken,
  };
  return { ...config, awsCredentials };
}

function json(report: unknown): string {
  return `${JSON.stringify(report, null, 2)}\n`;
}

function storageReport(report: CopyStorageReport, flags: CopyFlags): string {
  const lines = report.issues.map(({ kind, key, reason }) => `${kind}  ${key}  ${reason}`);
  const more = report.vanished + report.wrong + report.failed - lines.length;
  if (more > 0) lines.push(`… and ${more} more`);
  return `${[...lines, storageText(report, flags)].join('\n')}\n`;
}

function storageText({ objects, copied, same, bytes }: CopyStorageReport, flags: CopyFlags): string {
  return (
    `${counted(objects, 'object')} looked at, ${copied} ${copiedText(flags)} (${formatBytes(bytes)}), ` +
    `${same} there already`
  );
}

function indexText({ copied, compared, totals }: CopyIndexReport, flags: CopyFlags): string {
  const rows = Object.values(copied).reduce((sum, count) => sum + count, 0);
  if (flags.dryRun === true) return `${counted(rows, 'row')} ${copiedText(flags)}`;
  const stored =
    totals === null
      ? ''
      : `; ${counted(totals.presentNars, 'NAR')} (${formatBytes(totals.presentBytes)}) present`;
  return `${counted(rows, 'row')} ${copiedText(flags)}, ${compared} compared${stored}`;
}

function copiedText({ dryRun }: CopyFlags): string {
  return dryRun === true ? 'to be copied' : 'copied';
}
