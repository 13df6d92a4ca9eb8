import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** An empty directory for a bundle: goes with the run of the tests (`bundles-setup.ts`), else with the process. */
export async function bundleDirectory(): Promise<string> {
  const ofTheRun = process.env['TEST_BUNDLES_DIRECTORY'];
  if (ofTheRun !== undefined) return await mkdtemp(join(ofTheRun, 'bundle-'));
  const directory = await mkdtemp(join(tmpdir(), 'snowcap-bundle-'));
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
