import { copyIndex } from '../../../src/cache/copy-index.ts';
import { createSqliteStore } from '../../../src/database/sqlite/node.ts';
import { systemClock } from '../../../src/telemetry/system-clock.ts';
import { killAt } from '../../support/checkpoint.ts';

/** Copies an index between two files, and is killed at a step of it: `copy-index-writer.ts FROM TO STEP OCCURRENCE`. */
const [from = '', to = '', step = '', occurrence = ''] = process.argv.slice(2);
const platform = { clock: systemClock, checkpoint: killAt(step, Number(occurrence)) };
await copyIndex(await createSqliteStore({ path: from }), await createSqliteStore({ path: to }), { platform });
