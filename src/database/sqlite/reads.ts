import { sql } from 'drizzle-orm';
import { value } from '../compile.ts';
import { type IndexReads, indexReads } from '../reads.ts';
import { compile } from './compile.ts';
import * as tables from './schema.ts';

export const reads: IndexReads = indexReads(tables, {
  compile,
  listed: sql`json_each(${value('hashes')}) as listed`,
  sum: (column) => sql`coalesce(sum(${column}), 0)`,
});
