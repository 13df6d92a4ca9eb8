import { expect } from 'vitest';
import { evictionRank } from '../../../src/database/eviction-order.ts';
import type { IndexStore } from '../../../src/database/index-store.ts';
import { HOUR, keyOf, NOW } from './records.ts';

/** Whether a migration is the one that gives NARs their rank. */
export function bringsUpkeep({ sql }: { readonly sql: readonly string[] }): boolean {
  return sql.some((statement) => statement.includes('evict_rank'));
}

/**
 * Statements that make NARs in the schema of before: two with a source, of which one was never stored, and two pushed
 * ones.
 *
 * @param quote what the dialect puts around a name that is a word of its own
 */
export function oldNars(quote: '"' | '`'): readonly string[] {
  const key = `${quote}key${quote}`;
  const rows = [
    [1, `'https://cache.example.org', 'nar/1'`, 'present', NOW],
    [2, 'null, null', 'present', NOW + HOUR],
    [3, `'https://cache.example.org', 'nar/3'`, 'known', 0],
    [4, 'null, null', 'present', NOW],
  ] as const;
  return rows.map(
    ([number, source, state, at]) =>
      `insert into nars (${key}, compression, file_size, source_upstream, source_url, state, generation, last_access)
        values ('${keyOf(number)}', 'xz', 1000, ${source}, '${state}', 1, ${at})`,
  );
}

/** They are in the order of their last access, which is all that was known of them, and go on from there. */
export async function expectUpgraded(index: IndexStore): Promise<void> {
  const page = { after: null, accessedBefore: NOW + 9 * HOUR, now: NOW, limit: 10 };
  const listed = async (pushed: boolean) =>
    (await index.upkeep.listEvictable({ ...page, pushed })).map(({ nar, rank, accesses }) => [
      nar.key,
      rank,
      accesses,
    ]);
  expect(await listed(false)).toEqual([[keyOf(1), NOW, 1]]);
  expect(await listed(true)).toEqual([
    [keyOf(4), NOW, 1],
    [keyOf(2), NOW + HOUR, 1],
  ]);
  const lastAccess = NOW + 2 * HOUR;
  await index.touch([{ key: keyOf(1), at: lastAccess }]);
  const rank = evictionRank({ lastAccess, accesses: 2, fileSize: 1000 });
  expect(await listed(false)).toEqual([[keyOf(1), rank, 2]]);
}
