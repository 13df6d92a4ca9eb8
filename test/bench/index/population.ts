/**
 * An index of many paths, as statements that make it within the database: their hashes are spread like real ones, each
 * path has its own NAR, present and used at some time, and refers to up to five paths of its block, of which the first
 * reaches all. Some of the NARs were pushed.
 */

/** Paths of one block: the closure of its first. */
export const BLOCK = 5000;
export const NOW = 1_790_000_000_000;
/** Bytes that a NAR has on the average. */
const MEAN_SIZE = 1_000_000;

/** What the dialects say differently. `i` is a number from 1 on. */
export interface PopulationDialect {
  /** Rows with a column `i` from 1 to `count`. */
  numbers(count: number): string;
  hash(i: string): string;
  /** Text of a number. */
  text(i: string): string;
  /** What a column is called. */
  name(column: 'key' | 'references'): string;
  /** The lesser of two numbers. */
  least(one: string, other: string): string;
}

export const SQLITE: PopulationDialect = {
  numbers: (count) =>
    `(with recursive n(i) as (select 1 union all select i + 1 from n where i < ${count}) select i from n)`,
  hash: (i) => `printf('%08x%024d', (${i} * 2654435761) % 4294967296, ${i})`,
  text: (i) => i,
  name: (column) => `"${column}"`,
  least: (one, other) => `min(${one}, ${other})`,
};

export const POSTGRES: PopulationDialect = {
  numbers: (count) => `(select i::bigint from generate_series(1, ${count}) as i)`,
  hash: (i) => `lpad(to_hex((${i} * 2654435761) % 4294967296), 8, '0') || lpad((${i})::text, 24, '0')`,
  text: (i) => `(${i})::text`,
  name: (column) => `"${column}"`,
  least: (one, other) => `least(${one}, ${other})`,
};

/** The distances of a path to those that it refers to, within its block. */
const STEPS = [1, 7, 61, 499, 1987];

/** In order; the tables are empty, and have their ids from 1 on. */
export function populate(dialect: PopulationDialect, count: number): readonly string[] {
  const { numbers, hash, text, name, least } = dialect;
  const n = `${numbers(count)} as n`;
  const last = least(`((n.i - 1) / ${BLOCK} + 1) * ${BLOCK}`, String(count));
  return [
    `insert into store_hashes (hash) select ${hash('n.i')} from ${n} order by n.i`,
    `insert into nars (${name('key')}, compression, file_hash, file_size, source_upstream, source_url, state, verification,
        generation, last_access, accesses, pushed, evict_rank)
      select 'nar/' || ${hash('n.i')} || '.nar.xz', 'xz', 'sha256:' || ${hash('n.i')} || '00000000000000000000',
          1000 + (n.i * 7919) % ${2 * MEAN_SIZE},
          case when n.i % 10 = 0 then null else 'https://cache.example.org' end,
          case when n.i % 10 = 0 then null else 'nar/' || ${hash('n.i')} || '.nar.xz' end,
          'present', 'nar', 1, ${NOW} - (n.i * 104729) % 7776000000, 1, case when n.i % 10 = 0 then 1 else 0 end,
          ${NOW} - (n.i * 104729) % 7776000000
        from ${n} order by n.i`,
    `insert into paths (node_id, nar_id, store_path, nar_hash, nar_size, ${name('references')}, deriver, ca, signatures,
        extra, justification, justified_by, origin, recorded_at)
      select n.i, n.i, '/nix/store/' || ${hash('n.i')} || '-package-' || ${text('n.i')},
          'sha256:' || ${hash('n.i')} || '00000000000000000000', 3000 + n.i % 1000000,
          ${hash('n.i + 1')} || '-package-' || ${text('n.i + 1')}, ${hash('n.i')} || '-package.drv', null,
          '["cache.example.org-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="]',
          '[]', 'key', 'cache.example.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=',
          'https://cache.example.org', ${NOW}
        from ${n} order by n.i`,
    ...STEPS.map(
      (step) => `insert into reference_edges (referrer, reference)
        select n.i, n.i + ${step} from ${n} where n.i + ${step} <= ${last} order by n.i`,
    ),
    `update size_counters set
      present_bytes = (select coalesce(sum(file_size), 0) from nars where nars.id % 16 = size_counters.shard),
      present_nars = (select count(*) from nars where nars.id % 16 = size_counters.shard)`,
    'analyze',
  ];
}
