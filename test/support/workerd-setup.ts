import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { readD1Migrations } from '@cloudflare/vitest-plugin';
import type { TestProject } from 'vitest/node';
import { hasTool } from '../unit/nar/fixtures.ts';

/** Global set-up of the suite that runs inside workerd: what its tests cannot read or make there. */
export default async function setup(project: TestProject): Promise<void> {
  // Else miniflare asks Cloudflare where it is. (Metrics are sent by wrangler's commands only.)
  process.env['CLOUDFLARE_CF_FETCH_ENABLED'] = 'false';
  // The decoder of xz as a file that can be imported.
  // (A process of its own: modules that vitest runs cannot resolve packages.)
  await promisify(execFile)(process.execPath, [
    join(import.meta.dirname, '../../scripts/write-xz-module.ts'),
  ]);
  const missing = ['xz', 'bzip2'].filter((tool) => !hasTool(tool));
  project.provide(
    'missingTools',
    Object.fromEntries(missing.map((tool) => [tool, `${tool} is not installed`])),
  );
  const migrations = join(import.meta.dirname, '../../drizzle/sqlite');
  project.provide('migrations', await readD1Migrations(migrations));
}
