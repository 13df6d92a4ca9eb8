import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * Global set-up of the conformance suite: one directory in which the closure and the upstream caches are
 * made once for all test files, by the first that needs them; removed at the end.
 *
 * @returns the tear-down
 */
export default async function setup(): Promise<() => Promise<void>> {
  const directory = await mkdtemp(join(tmpdir(), 'snowcap-conformance-'));
  process.env['TEST_CLOSURE_DIRECTORY'] = directory;
  return async () => {
    delete process.env['TEST_CLOSURE_DIRECTORY'];
    await rm(directory, { recursive: true, force: true });
  };
}
