import type { Command } from 'commander';
import type { Config } from '../config/config.ts';
import { parseDatabase, parseStorage } from '../config/places.ts';
import { ValueError } from '../config/values.ts';
import type { CliContext } from './context.ts';
import { UsageFailure } from './failure.ts';
import { parseBytesPerSecond, parseConcurrency } from './numbers.ts';
import { addSettingsFlags, configOf } from './settings-flags.ts';

/** `snowcap migrate-storage FROM TO` */
export function registerMigrateStorage(program: Command, context: CliContext): void {
  addSettingsFlags(program.command('migrate-storage'), ['SNOWCAP_STORE_DIR', 'SNOWCAP_DATABASE_TIMEOUT'])
    .description(
      'copy a storage or an index to another back end, and verify it: run again after an interruption, it goes on. ' +
        'Nothing is removed from the old place. Ends with 0 when all is there, 1 where something could not be copied',
    )
    .argument(
      '<from>',
      'as SNOWCAP_STORAGE (file:, s3://) or as SNOWCAP_DATABASE (sqlite:, postgres://, mysql://)',
    )
    .argument('<to>', 'another one of the same kind')
    .option('--dry-run', 'change nothing, only count what there is to be copied')
    .option('--content', 'of a storage: compare the content of what is there already, not only its size')
    .option('--concurrency <number>', 'of a storage: so many objects at once', parseConcurrency, 8)
    .option(
      '--bandwidth <size>',
      'of a storage: read at most so many bytes a second, as 50M',
      parseBytesPerSecond,
    )
    .option('--json', 'print the report as JSON')
    .addHelpText(
      'after',
      '\nTwo storages of S3 with keys of their own: FROM_AWS_ACCESS_KEY_ID and FROM_AWS_SECRET_ACCESS_KEY, or the same\n' +
        'with TO_, are taken before AWS_ACCESS_KEY_ID. R2 is reached by its S3 endpoint.\n',
    )
    .action((from: string, to: string, flags: CopyFlags, command: Command) =>
      run({ from, to }, flags, command, context),
    );
}

export interface CopyFlags {
  readonly dryRun?: true;
  readonly content?: true;
  readonly concurrency: number;
  readonly bandwidth?: number;
  readonly json?: true;
}

interface Places {
  readonly from: string;
  readonly to: string;
}

async function run(places: Places, flags: CopyFlags, command: Command, context: CliContext): Promise<void> {
  const { config } = await configOf(command, context, { keyless: true });
  const kinds = { from: kindOf(places.from, 'FROM'), to: kindOf(places.to, 'TO') };
  if (kinds.from !== kinds.to) {
    throw new UsageFailure(
      `FROM is ${article(kinds.from)} and TO ${article(kinds.to)}: copy storage and index one after the other`,
    );
  }
  const configs = {
    from: configWith(config, kinds.from, places.from, 'FROM'),
    to: configWith(config, kinds.to, places.to, 'TO'),
  };
  const copy = await import('./copies.ts');
  if (kinds.from === 'database') await copy.copyDatabase(configs, flags, context);
  else await copy.copyStorageBetween(configs, flags, context);
}

type Kind = 'storage' | 'database';

/** By its scheme. @throws UsageFailure */
function kindOf(place: string, which: string): Kind {
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(place)?.[1]?.toLowerCase() ?? '';
  if (['file', 's3'].includes(scheme)) return 'storage';
  if (['sqlite', 'postgres', 'postgresql', 'mysql', 'mariadb'].includes(scheme)) return 'database';
  if (scheme === 'r2') {
    throw new UsageFailure(
      `${which}: R2 is reached from here by its S3 endpoint, as s3://BUCKET?endpoint=https://…`,
    );
  }
  if (scheme === 'd1') {
    throw new UsageFailure(
      `${which}: D1 is reached by Workers alone; "snowcap reindex" makes an index from a storage`,
    );
  }
  if (scheme === 'hyperdrive') throw new UsageFailure(`${which}: give the URL of the database itself`);
  throw new UsageFailure(
    `${which}: expected file:PATH or s3://BUCKET/PREFIX, or sqlite:PATH, postgres://… or mysql://…`,
  );
}

function article(kind: Kind): string {
  return `a ${kind}`;
}

/** @throws UsageFailure, which never shows a password */
function configWith(config: Config, kind: Kind, place: string, which: string): Config {
  try {
    return kind === 'storage'
      ? { ...config, storage: parseStorage(place) }
      : { ...config, database: parseDatabase(place) };
  } catch (error) {
    if (error instanceof ValueError) throw new UsageFailure(`${which}: ${error.message}`);
    throw error;
  }
}
