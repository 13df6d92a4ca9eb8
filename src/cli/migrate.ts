import type { Command } from 'commander';
import type { Config } from '../config/config.ts';
import type { MigrationReport } from '../database/migrations.ts';
import { write } from './context.ts';
import type { CliContext } from './context.ts';
import { Failure, UsageFailure } from './failure.ts';
import { addSettingsFlags, configOf, counted } from './settings-flags.ts';

/** `snowcap migrate` */
export function registerMigrate(program: Command, context: CliContext): void {
  addSettingsFlags(program.command('migrate'), ['SNOWCAP_DATABASE'])
    .description('bring the schema of the index up to date; may be run at any time, by several at once')
    .option('--dry-run', 'only say what is missing; ends with code 1 if anything is')
    .action((_options: unknown, command: Command) => migrate(command, context));
}

async function migrate(command: Command, context: CliContext): Promise<void> {
  const { config } = await configOf(command, context, { keyless: true });
  const dryRun = command.getOptionValue('dryRun') === true;
  const { before, pending } = await migrateDatabase(config, dryRun);
  if (pending === 0) {
    await write(context.stdout, `The index is up to date: ${counted(before, 'migration')}\n`);
    return;
  }
  const all = before + pending;
  if (dryRun) throw new Failure(`The index lacks ${pending} of ${counted(all, 'migration')}`);
  await write(
    context.stdout,
    `The index is up to date now: ${pending} of ${counted(all, 'migration')} applied\n`,
  );
}

async function migrateDatabase({ database }: Config, dryRun: boolean): Promise<MigrationReport> {
  const { migrationsFor } = await import('../database/read-migrations.ts');
  switch (database.kind) {
    case 'sqlite': {
      const { migrateSqlite } = await import('../database/sqlite/migrate-file.ts');
      return await migrateSqlite(database.path, { dryRun });
    }
    case 'postgres': {
      const { migratePostgres } = await import('../database/postgres/migrate.ts');
      return await migratePostgres(database.url, migrationsFor('postgres'), { dryRun });
    }
    case 'mysql': {
      const { migrateMysql } = await import('../database/mysql/migrate.ts');
      return await migrateMysql(database.url, migrationsFor('mysql'), { dryRun });
    }
    case 'd1':
      throw new UsageFailure('A database of D1 is migrated by "wrangler d1 migrations apply"');
    case 'hyperdrive':
      throw new UsageFailure(
        'Hyperdrive is a way to a database: give the URL of the database itself as SNOWCAP_DATABASE',
      );
  }
}
