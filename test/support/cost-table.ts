import type { TestCache } from './test-cache.ts';

/** What an answer costs of each helper: the numbers behind the bill. */
export interface Cost {
  /** Storage operations, by the names of `BlobStore`. */
  readonly storage: Readonly<Record<string, number>>;
  /** Index queries and batches, by the names of `MetadataStore`. */
  readonly index: Readonly<Record<string, number>>;
  /** Commands to the lock service. */
  readonly locks: number;
  /** Requests to upstreams. */
  readonly upstream: number;
}

/**
 * What `work` costs.
 *
 * @param requests how many requests the upstreams had so far
 */
export async function costOf(
  snowcap: TestCache,
  requests: () => number,
  work: () => Promise<unknown>,
): Promise<Cost> {
  const before = { ...snowcap.operations };
  const asked = requests();
  await work();
  const since = (prefix: string): Record<string, number> => {
    const counts: Record<string, number> = {};
    for (const [name, count] of Object.entries(snowcap.operations)) {
      const more = count - (before[name] ?? 0);
      if (name.startsWith(prefix) && more > 0) counts[name.slice(prefix.length)] = more;
    }
    return counts;
  };
  const locks = Object.values(since('locks.')).reduce((sum, count) => sum + count, 0);
  return { storage: since('storage.'), index: since('metadata.'), locks, upstream: requests() - asked };
}

/** The costs as a table in Markdown, for the documentation. */
export function costTable(rows: Readonly<Record<string, Cost>>): string {
  const shown = (counts: Readonly<Record<string, number>>): string =>
    Object.entries(counts)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, count]) => `${count} ${name}`)
      .join(', ') || '0';
  const lines = Object.entries(rows).map(
    ([what, { storage, index, locks, upstream }]) =>
      `| ${what} | ${shown(storage)} | ${shown(index)} | ${locks} | ${upstream} |`,
  );
  return [
    '| request | storage | index | locks | upstream |',
    '| --- | --- | --- | --- | --- |',
    ...lines,
  ].join('\n');
}
