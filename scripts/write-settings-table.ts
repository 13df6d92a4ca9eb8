import { readFile, writeFile } from 'node:fs/promises';
import { settingsTable } from '../src/config/settings.ts';

/** Writes the table of settings into the README, between its two marks. */
const README = new URL('../README.md', import.meta.url);
const MARKS = /(<!-- settings: begin[^>]*-->\n)[^]*?(<!-- settings: end -->)/;

const text = await readFile(README, 'utf8');
if (!MARKS.test(text)) throw new Error('README.md has no marks for the table of settings');
await writeFile(
  README,
  text.replace(MARKS, (_, begin: string, end: string) => `${begin}\n${settingsTable()}\n${end}`),
);
