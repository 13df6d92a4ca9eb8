import {
  bigint,
  customType,
  index,
  int,
  type MySqlColumn,
  type MySqlTable,
  mysqlTable,
  primaryKey,
  varbinary,
} from 'drizzle-orm/mysql-core';
import type { BanColumn, NarColumn, PathColumn, PinColumn } from '../tables.ts';

/**
 * The tables of the index in MySQL and MariaDB, as `src/database/sqlite/schema.ts` explains them. The migrations in
 * `drizzle/mysql` are generated from this file by `npm run db:generate`; the rows of `size_counters` are written into
 * the first one by hand.
 *
 * Texts compare by their code points, whatever the defaults of the server and the database are, as in SQLite; but for
 * spaces at the end, which do not count and which no key or hash has. The names of leases are anything. What
 * is in an index has a length: a key of an index may have 3072 bytes, and a character up to 4.
 */
type Table<Column extends string> = MySqlTable & Readonly<Record<Column, MySqlColumn>>;

const CHARACTERS = 'character set utf8mb4 collate utf8mb4_bin';
/** Up to 16 MiB: as many references as a path may have. */
const text = customType<{ data: string }>({ dataType: () => `mediumtext ${CHARACTERS}` });
const short = customType<{ data: string; config: { length: number } }>({
  dataType: (config) => `varchar(${config?.length ?? 0}) ${CHARACTERS}`,
});
const whole = (name: string) => bigint(name, { mode: 'number' });
const id = () => whole('id').primaryKey().autoincrement();

/** The nodes of the reference graph. */
export const storeHashes: Table<'id' | 'hash'> = mysqlTable('store_hashes', {
  id: id(),
  hash: short('hash', { length: 32 }).notNull().unique(),
});

/** NARs: one row for each storage key. */
export const nars: Table<NarColumn> = mysqlTable(
  'nars',
  {
    id: id(),
    key: short('key', { length: 512 }).notNull().unique(),
    compression: short('compression', { length: 32 }).notNull(),
    fileHash: text('file_hash'),
    fileSize: whole('file_size'),
    sourceUpstream: text('source_upstream'),
    sourceUrl: text('source_url'),
    state: short('state', { length: 16 }).notNull().default('known'),
    verification: short('verification', { length: 16 }).notNull().default('none'),
    generation: whole('generation').notNull().default(0),
    lastAccess: whole('last_access').notNull().default(0),
    accesses: whole('accesses').notNull().default(0),
    pushed: whole('pushed').notNull().default(0),
    evictRank: whole('evict_rank').notNull().default(0),
    quarantineReason: text('quarantine_reason'),
  },
  (table) => [
    // The order of eviction.
    index('nars_eviction').on(table.state, table.pushed, table.evictRank, table.id),
    index('nars_unverified').on(table.state, table.verification, table.id),
  ],
);

/** Store paths with their signed facts. */
export const paths: Table<PathColumn> = mysqlTable(
  'paths',
  {
    id: id(),
    nodeId: whole('node_id')
      .notNull()
      .unique()
      .references(() => storeHashes.id),
    narId: whole('nar_id')
      .notNull()
      .references(() => nars.id),
    storePath: text('store_path').notNull(),
    narHash: text('nar_hash').notNull(),
    narSize: whole('nar_size').notNull(),
    references: text('references').notNull(),
    deriver: text('deriver'),
    ca: text('ca'),
    signatures: text('signatures').notNull(),
    extra: text('extra').notNull(),
    justification: text('justification').notNull(),
    justifiedBy: text('justified_by'),
    origin: text('origin'),
    revision: whole('revision').notNull().default(1),
    recordedAt: whole('recorded_at').notNull(),
  },
  (table) => [index('paths_by_nar').on(table.narId, table.id)],
);

/** Who refers to whom, by ids of `store_hashes`. No self-references. */
export const referenceEdges: Table<'referrer' | 'reference'> = mysqlTable(
  'reference_edges',
  {
    referrer: whole('referrer')
      .notNull()
      .references(() => storeHashes.id),
    reference: whole('reference')
      .notNull()
      .references(() => storeHashes.id),
  },
  (table) => [
    primaryKey({ columns: [table.referrer, table.reference] }),
    index('reference_edges_reverse').on(table.reference, table.referrer),
  ],
);

/** The NARs present or evicting, summed in a fixed number of rows, so that a total is not a scan. */
export const sizeCounters: Table<'shard' | 'presentBytes' | 'presentNars'> = mysqlTable('size_counters', {
  shard: int('shard').primaryKey(),
  presentBytes: whole('present_bytes').notNull().default(0),
  presentNars: whole('present_nars').notNull().default(0),
});

/** Leases that locks fall back on, by the clock of the database, in milliseconds since the epoch. */
export const leases: Table<'name' | 'token' | 'endsAt'> = mysqlTable('leases', {
  name: varbinary('name', { length: 1024 }).primaryKey(),
  token: varbinary('token', { length: 255 }).notNull(),
  endsAt: whole('ends_at').notNull(),
});

/** Roots that are kept, with all that they refer to. */
export const pins: Table<PinColumn> = mysqlTable('pins', {
  id: id(),
  name: short('name', { length: 255 }).notNull().unique(),
  nodeId: whole('node_id')
    .notNull()
    .references(() => storeHashes.id),
  storePath: text('store_path').notNull(),
  createdAt: whole('created_at').notNull(),
  expiresAt: whole('expires_at'),
});

/** The closure of each pin, as far as it is known. */
export const pinnedPaths: Table<'pinId' | 'nodeId'> = mysqlTable(
  'pinned_paths',
  {
    pinId: whole('pin_id')
      .notNull()
      .references(() => pins.id),
    nodeId: whole('node_id')
      .notNull()
      .references(() => storeHashes.id),
  },
  (table) => [
    primaryKey({ columns: [table.pinId, table.nodeId] }),
    index('pinned_paths_by_node').on(table.nodeId, table.pinId),
  ],
);

/** Paths that are not to come back. */
export const bans: Table<BanColumn> = mysqlTable('bans', {
  hash: short('hash', { length: 32 }).primaryKey(),
  storePath: text('store_path').notNull(),
  reason: text('reason').notNull(),
  bannedAt: whole('banned_at').notNull(),
});

/** Facts about the index itself. */
export const meta: Table<'key' | 'value'> = mysqlTable('meta', {
  key: short('key', { length: 255 }).primaryKey(),
  value: text('value').notNull(),
});
