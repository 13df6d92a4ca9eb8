/**
 * Another process on an index, driven by `sqlite-processes.test.ts`: says `ready`, waits for a line, and then
 *
 * - `open <path>`: opens the index and says `opened`
 * - `race <path> <writer>`: records 200 paths in its own way and prints what was answered
 * - `write <path> <round>`: records and stores paths until it is killed, and says `done <number>` after each
 */
import { once } from 'node:events';
import { writeSync } from 'node:fs';
import { createSqliteStore } from '../../../src/database/sqlite/node.ts';
import { keyOf, narOf, pathOf, storedNar } from './records.ts';

const [task, path = '', which = ''] = process.argv.slice(2);

/** Written before it returns: what was said has happened, also for a process that is killed next. */
function say(line: string): void {
  writeSync(1, `${line}\n`);
}

const store = task === 'open' ? null : await createSqliteStore({ path, busyTimeoutMs: 20_000 });
say('ready');
await once(process.stdin, 'data');
process.stdin.destroy();

switch (task) {
  case 'open':
    await (await createSqliteStore({ path, busyTimeoutMs: 20_000 })).close();
    say('opened');
    break;
  case 'race':
    for (let number = 1; number <= 200; number++) {
      const own = number * 10 + Number(which);
      const { path, nar } = (await store?.recordPath(pathOf(number, [own + 5000]), narOf(own))) ?? {};
      say(JSON.stringify({ path, key: nar?.key }));
      await store?.markPresent(keyOf(number), storedNar(number, { fileSize: own }));
    }
    break;
  default:
    for (let number = Number(which) * 10_000; ; number++) {
      const references = Array.from({ length: 20 }, (_, at) => number + at + 1);
      await store?.recordPath(pathOf(number, references), narOf(number));
      await store?.markPresent(keyOf(number), storedNar(number));
      if (number % 3 === 0) await store?.markPresent(keyOf(number), storedNar(number, { fileSize: 9 }));
      say(`done ${number}`);
    }
}
await store?.close();
