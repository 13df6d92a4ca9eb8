import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Backend } from './backend.ts';
import { startSnowcap } from './snowcap.ts';

/** A Node process over files and SQLite: what Snowcap does with no setting at all. */
export function openFilesBackend(): Backend {
  return {
    name: 'files',
    async openPlace() {
      // `./data` is in it.
      const directory = await mkdtemp(join(tmpdir(), 'snowcap-bench-data-'));
      return {
        start: (options) => startSnowcap(directory, options),
        direct: null,
        remove: () => rm(directory, { recursive: true, force: true }),
      };
    },
    stop: () => Promise.resolve(),
  };
}
