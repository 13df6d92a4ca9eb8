import { join } from 'node:path';
import { readD1Migrations } from '@cloudflare/vitest-plugin';
import type { D1Migration } from '@cloudflare/vitest-plugin';
import type { TestProject } from 'vitest/node';

declare module 'vitest' {
  interface ProvidedContext {
    /** Those of `drizzle/sqlite`, read as wrangler reads them. */
    readonly migrations: readonly D1Migration[];
  }
}

/** Global set-up of the suite that runs inside workerd: what its tests cannot read or make there. */
export default async function setup(project: TestProject): Promise<void> {
  // Else miniflare asks Cloudflare where it is. (Metrics are sent by wrangler's commands only.)
  process.env['CLOUDFLARE_CF_FETCH_ENABLED'] = 'false';
  const migrations = join(import.meta.dirname, '../../drizzle/sqlite');
  project.provide('migrations', await readD1Migrations(migrations));
}
