import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it, onTestFinished } from 'vitest';
import { D1_MIGRATIONS } from '../../../src/database/sqlite/d1.ts';
import { migrate, readMigrations } from '../../../src/database/sqlite/migrate.ts';

const REPOSITORY = fileURLToPath(new URL('../../../', import.meta.url));
const FOLDER = join(REPOSITORY, 'drizzle/sqlite');

/** Tables and indexes as they were made, but for those of whoever applies migrations and of D1 itself. */
function schemaOf(database: DatabaseSync): readonly unknown[] {
  return database
    .prepare(
      `select name, sql from sqlite_master
      where name not like '%migrations%' and name not like 'sqlite\\_%' escape '\\' and name not like '\\_cf\\_%' escape '\\'
      order by name`,
    )
    .all();
}

it('wrangler applies the migrations of drizzle/sqlite to D1, and makes the schema of node:sqlite', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'snowcap-d1-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const config = join(directory, 'wrangler.json');
  const binding = { binding: 'DB', database_name: 'snowcap', database_id: 'local', migrations_dir: FOLDER };
  await writeFile(
    config,
    JSON.stringify({ name: 'snowcap', compatibility_date: '2026-11-02', d1_databases: [binding] }),
  );
  const apply = async (): Promise<string> => {
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [
        join(REPOSITORY, 'node_modules/wrangler/bin/wrangler.js'),
        'd1',
        'migrations',
        'apply',
        'snowcap',
        '--local',
        `--config=${config}`,
        `--persist-to=${join(directory, 'state')}`,
      ],
      {
        cwd: directory,
        // Nothing is asked, sent, or written elsewhere.
        env: {
          ...process.env,
          CI: 'true',
          HOME: directory,
          XDG_CONFIG_HOME: directory,
          WRANGLER_SEND_METRICS: 'false',
          CLOUDFLARE_CF_FETCH_ENABLED: 'false',
          WRANGLER_LOG_PATH: join(directory, 'logs'),
        },
      },
    );
    return stdout;
  };
  expect(await apply()).toContain(D1_MIGRATIONS.at(-1));
  expect(await apply()).toContain('No migrations to apply');

  const files = await readdir(join(directory, 'state'), { recursive: true });
  const file = files.find((name) => name.endsWith('.sqlite') && !name.includes('metadata'));
  const applied = new DatabaseSync(join(directory, 'state', file ?? ''));
  const ours = new DatabaseSync(':memory:');
  migrate(ours, readMigrations(FOLDER));
  expect(schemaOf(applied)).toEqual(schemaOf(ours));
  const names = applied.prepare('select name from d1_migrations order by id').all();
  expect(names.map(({ name }) => name)).toEqual(D1_MIGRATIONS);
  applied.close();
  ours.close();
}, 120_000);
