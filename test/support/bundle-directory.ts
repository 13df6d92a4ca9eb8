import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { madeOnce } from './closure-lock.ts';

/**
 * A bundle that all files of a run share, and that goes with it (`bundles-setup.ts`). Without such a run each process
 * makes its own, which goes with the process.
 *
 * @param make writes it into the empty directory that it is given
 * @returns the directory, which is nobody's to change
 */
export async function bundleOnce(name: string, make: (directory: string) => Promise<void>): Promise<string> {
  const ofTheRun = process.env['TEST_BUNDLES_DIRECTORY'];
  if (ofTheRun !== undefined) return await madeOnce(ofTheRun, name, make);
  const directory = await mkdtemp(join(tmpdir(), 'snowcap-bundle-'));
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  await make(directory);
  return directory;
}
