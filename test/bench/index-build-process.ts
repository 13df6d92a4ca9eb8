import { DatabaseSync } from 'node:sqlite';
import { populate, SQLITE } from './index/population.ts';

/** Fills an empty index in a file of SQLite: in a process of its own, whose memory is not that of what is measured. */
const [path = '', paths = '0'] = process.argv.slice(2);
const database = new DatabaseSync(path);
database.exec('pragma synchronous = off; pragma cache_size = -2000000; begin');
for (const text of populate(SQLITE, Number(paths))) database.exec(text);
database.exec('commit');
database.close();
