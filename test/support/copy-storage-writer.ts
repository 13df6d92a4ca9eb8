import { copyStorage } from '../../src/cache/copy-storage.ts';
import { createFileStore } from '../../src/storage/file.ts';
import { systemClock } from '../../src/telemetry/system-clock.ts';
import { killAt } from './checkpoint.ts';

/** Copies a folder into another, and is killed at a step of it: `copy-storage-writer.ts FROM TO STEP OCCURRENCE`. */
const [from = '', to = '', step = '', occurrence = ''] = process.argv.slice(2);
const checkpoint = killAt(step, Number(occurrence));
await copyStorage(await createFileStore({ root: from }), await createFileStore({ root: to, checkpoint }), {
  platform: { clock: systemClock, checkpoint },
  storeDir: '/nix/store',
  concurrency: 1,
});
