import { readFile, writeFile } from 'node:fs/promises';
import { COST_TABLES } from './costs/tables.ts';

/** Writes the tables of `docs/costs.md`, each between its two marks. */
const PAGE = new URL('../docs/costs.md', import.meta.url);

let text = await readFile(PAGE, 'utf8');
for (const [name, table] of Object.entries(COST_TABLES)) {
  const marks = new RegExp(`(<!-- ${name}: begin[^>]*-->\n)[^]*?(<!-- ${name}: end -->)`);
  if (!marks.test(text)) throw new Error(`docs/costs.md has no marks for the table ${name}`);
  text = text.replace(marks, (_, begin: string, end: string) => `${begin}\n${table()}\n\n${end}`);
}
await writeFile(PAGE, text);
