import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * Global set-up of the suites that bundle a Worker or a Lambda: one directory for all bundles of the run, removed at
 * the end. A process that runs tests is ended from outside, so it cannot remove its own.
 *
 * @returns the tear-down
 */
export default async function setup(): Promise<() => Promise<void>> {
  const directory = await mkdtemp(join(tmpdir(), 'snowcap-bundles-'));
  process.env['TEST_BUNDLES_DIRECTORY'] = directory;
  return async () => {
    delete process.env['TEST_BUNDLES_DIRECTORY'];
    await rm(directory, { recursive: true, force: true });
  };
}
