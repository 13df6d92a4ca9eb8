import { join } from 'node:path';
import { resign } from '../../src/cache/resign.ts';
import { parseSecretKey } from '../../src/nix/signing-key.ts';
import { killAt } from './checkpoint.ts';
import { startTestCache } from './test-cache.ts';

/** Signs the paths of a cache anew, and is killed at a step of it: `resign-writer.ts DIRECTORY STEP OCCURRENCE KEY…`. */
const [directory = '', step = '', occurrence = '', ...keys] = process.argv.slice(2);
const snowcap = await startTestCache({
  directory,
  storage: 'file',
  database: join(directory, 'index.db'),
  secretKeys: await Promise.all(keys.map((key) => parseSecretKey(key))),
  checkpoint: killAt(step, Number(occurrence)),
});
await resign(snowcap.services, { concurrency: 1 });
await snowcap.close();
