import type { Command } from 'commander';
import type { EvictionCandidate, EvictionReport } from '../cache/evict/report.ts';
import type { MetadataStore } from '../database/metadata-store.ts';
import { type CliContext, write } from './context.ts';
import { Failure } from './failure.ts';
import { untilInterrupted } from './interrupt.ts';
import { parseMaxTime } from './numbers.ts';
import { createProgress, formatBytes } from './progress.ts';
import { addSettingsFlags, configOf, counted } from './settings-flags.ts';
import { withServices } from './with-services.ts';

/** `snowcap evict` */
export function registerEvict(program: Command, context: CliContext): void {
  addSettingsFlags(program.command('evict'))
    .description(
      'bring the stored NARs down to the low-water mark if they are above the limit, as a server does by itself; ends ' +
        'with 0 when they are within the limit, 1 when they are still above it',
    )
    .option('--dry-run', 'only say what would go, and why')
    .option('--max-time <seconds>', 'end after so long; the next run goes on', parseMaxTime)
    .option('--json', 'print the report and the bodies as JSON')
    .action((options: EvictFlags, command: Command) => evict(options, command, context));
}

interface EvictFlags {
  readonly dryRun?: true;
  readonly maxTime?: number;
  readonly json?: true;
}

/** A body that was looked at, with names of the paths that it is of. */
interface ListedBody extends EvictionCandidate {
  readonly paths: readonly string[];
}

/** As many bodies are listed; the rest is only counted. */
const MOST_LISTED = 10_000;
/** Paths that are named of one body. */
const MOST_PATHS = 3;

const STAYS: Readonly<Record<Exclude<EvictionCandidate['verdict'], 'goes'>, string>> = {
  pinned: 'stays: it is pinned',
  referred: 'stays: a pushed path refers to it',
  in_use: 'stays: it is read or filled now',
};

async function evict(flags: EvictFlags, command: Command, context: CliContext): Promise<void> {
  const { config } = await configOf(command, context);
  const { createCache } = await import('../cache/cache.ts');
  const progress = createProgress(context.stderr);
  const looked = new Map<string, EvictionCandidate>();
  let count = 0;
  const onCandidate = (candidate: EvictionCandidate): void => {
    count += 1;
    progress.show(`${counted(count, 'body', 'bodies')} looked at`);
    // One that stayed may go later, when its referrers have gone.
    if (looked.size < MOST_LISTED || looked.has(candidate.key)) looked.set(candidate.key, candidate);
  };
  const { report, bodies } = await withServices(config, context, async ({ services }) => {
    const done = await createCache(services).evict({
      dryRun: flags.dryRun === true,
      signal: untilInterrupted(),
      onCandidate,
      ...(flags.maxTime === undefined ? {} : { budgetMs: flags.maxTime }),
    });
    return { report: done, bodies: await withPaths(services.metadata, [...looked.values()]) };
  }).finally(() => progress.end());
  if (flags.json === true) await write(context.stdout, `${JSON.stringify({ ...report, bodies }, null, 2)}\n`);
  else await write(context.stdout, textOf(report, bodies));
  if (report.after.presentBytes > report.limit) throw new Failure(whyAbove(report));
}

async function withPaths(
  metadata: Pick<MetadataStore, 'getNar'>,
  candidates: readonly EvictionCandidate[],
): Promise<readonly ListedBody[]> {
  const bodies: ListedBody[] = [];
  for (const candidate of candidates) {
    const named = await metadata.getNar(candidate.key, MOST_PATHS);
    bodies.push({ ...candidate, paths: (named?.paths ?? []).map(({ storePath }) => storePath) });
  }
  return bodies;
}

function textOf(report: EvictionReport, bodies: readonly ListedBody[]): string {
  const { before, after, freed, limit, target, expiredPins, prunedPaths, dryRun } = report;
  const gone = Object.values(freed).reduce((sum, { nars }) => sum + nars, 0);
  const goneBytes = Object.values(freed).reduce((sum, { bytes }) => sum + bytes, 0);
  const rows = table(
    ['SIZE', 'LAST ACCESS', 'ACCESSES', 'WHY', 'NAR', 'PATHS'],
    bodies.map((body) => [
      formatBytes(body.size),
      dateOf(body.lastAccess),
      String(body.accesses),
      whyOf(body, dryRun),
      body.key,
      body.paths.join(' '),
    ]),
  );
  const [would, went] = dryRun ? ['would go', 'would be'] : ['went', 'are'];
  return [
    ...(bodies.length === 0 ? [] : rows),
    ...(bodies.length === MOST_LISTED ? ['…'] : []),
    ...expiredPins.map((name) => `The pin ${name} has expired`),
    ...(prunedPaths === 0 ? [] : [`${counted(prunedPaths, 'path')} forgotten`]),
    `${formatBytes(before.presentBytes)} of ${formatBytes(limit)} (low-water mark ${formatBytes(target)}): ` +
      `${counted(gone, 'body', 'bodies')} ${would} (${formatBytes(goneBytes)}), ` +
      `${formatBytes(after.presentBytes)} ${went} left; ${OUTCOMES[report.outcome]}`,
    '',
  ].join('\n');
}

const OUTCOMES: Readonly<Record<EvictionReport['outcome'], string>> = {
  within_limit: 'within the limit',
  reached: 'the low-water mark is reached',
  kept: 'nothing more may go',
  out_of_time: 'the time is over, the next run goes on',
  storage_fault: 'the storage deletes nothing now',
  another_runs: 'another eviction runs',
  rebuilding: 'nothing goes while the index is being rebuilt',
};

function whyAbove({ outcome, kept, after, limit }: EvictionReport): string {
  const above = `${formatBytes(after.presentBytes - limit)} are above the limit: ${OUTCOMES[outcome]}`;
  if (kept === null) return above;
  const reasons = [
    [kept.pinned, 'pinned'],
    [kept.inUse, 'in use'],
    [kept.recent, 'used in the last minutes'],
    [kept.pushed, 'pushed, and to be kept'],
  ] as const;
  const parts = reasons.filter(([bytes]) => bytes > 0).map(([bytes, why]) => `${formatBytes(bytes)} ${why}`);
  return `${above} (${parts.join(', ')})`;
}

function whyOf({ verdict, pushed }: ListedBody, dryRun: boolean): string {
  if (verdict !== 'goes') return STAYS[verdict];
  const goes = dryRun ? 'would go' : 'goes';
  return pushed ? `${goes}: pushed, and unused for long` : `${goes}: an upstream has it`;
}

function dateOf(milliseconds: number): string {
  return milliseconds === 0 ? 'never' : new Date(milliseconds).toISOString().slice(0, 16).replace('T', ' ');
}

/** Columns as wide as their longest entry, the last one as it is. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): readonly string[] {
  const all = [head, ...rows];
  const widths = head.map((_, column) =>
    all.reduce((most, row) => Math.max(most, row[column]?.length ?? 0), 0),
  );
  return all.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}
