import { sql } from 'drizzle-orm';
import {
  index,
  integer,
  primaryKey,
  type SQLiteColumn,
  type SQLiteTable,
  sqliteTable,
  text,
} from 'drizzle-orm/sqlite-core';
import type { BanColumn, NarColumn, PathColumn, PinColumn } from '../tables.ts';

/**
 * The tables of the index in SQLite (node:sqlite and D1). The migrations in `drizzle/sqlite` are
 * generated from this file by `npm run db:generate`.
 *
 * Some things are written into the migrations by hand, because drizzle-kit has no words for them: `WITHOUT ROWID` on
 * `reference_edges` and `pinned_paths`, the rows of `size_counters`, and what new columns hold for old rows.
 *
 * Times are milliseconds since the epoch, sizes are bytes. Lists are kept as one string each: a hit reads them
 * with the row, and nothing ever searches in them.
 */
type Table<Column extends string> = SQLiteTable & Readonly<Record<Column, SQLiteColumn>>;

/** The nodes of the reference graph: every store-path hash met so far, known as a path or only referred to. */
export const storeHashes: Table<'id' | 'hash'> = sqliteTable('store_hashes', {
  id: integer('id').primaryKey(),
  hash: text('hash').notNull().unique(),
});

/** NARs: one row for each storage key. */
export const nars: Table<NarColumn> = sqliteTable(
  'nars',
  {
    // Never reused: a sweep that goes on from the last id it saw must not pass over a new row.
    id: integer('id').primaryKey({ autoIncrement: true }),
    key: text('key').notNull().unique(),
    compression: text('compression').notNull(),
    fileHash: text('file_hash'),
    fileSize: integer('file_size'),
    sourceUpstream: text('source_upstream'),
    sourceUrl: text('source_url'),
    state: text('state').notNull().default('known'),
    verification: text('verification').notNull().default('none'),
    generation: integer('generation').notNull().default(0),
    lastAccess: integer('last_access').notNull().default(0),
    /** Accesses that were recorded: at most one an hour. */
    accesses: integer('accesses').notNull().default(0),
    /** 1 where no upstream is known to give it again, else 0. */
    pushed: integer('pushed').notNull().default(0),
    /** As `evictionRank`; set with what it is made of. */
    evictRank: integer('evict_rank').notNull().default(0),
    quarantineReason: text('quarantine_reason'),
  },
  (table) => [
    // The order of eviction; the id is the last column of every index of SQLite.
    index('nars_eviction').on(table.state, table.pushed, table.evictRank),
    // Small, because most NARs have been checked. The state is its first column only so that it is preferred to
    // the index above, which would leave the rows to be sorted by id.
    index('nars_unverified')
      .on(table.state)
      .where(sql`state = 'present' and verification <> 'nar'`),
  ],
);

/**
 * Store paths with their signed facts. They have ids of their own, beside those of the graph nodes: a
 * node may be older than its path by any time (as a stub), and paths are listed in the order in which they
 * were recorded.
 */
export const paths: Table<PathColumn> = sqliteTable(
  'paths',
  {
    id: integer('id').primaryKey({ autoIncrement: true }),
    nodeId: integer('node_id')
      .notNull()
      .unique()
      .references(() => storeHashes.id),
    narId: integer('nar_id')
      .notNull()
      .references(() => nars.id),
    storePath: text('store_path').notNull(),
    narHash: text('nar_hash').notNull(),
    narSize: integer('nar_size').notNull(),
    /** Base names, separated by one space. */
    references: text('references').notNull(),
    deriver: text('deriver'),
    ca: text('ca'),
    /** JSON: an array of strings. */
    signatures: text('signatures').notNull(),
    /** JSON: an array of pairs. */
    extra: text('extra').notNull(),
    /** The kind of the justification. */
    justification: text('justification').notNull(),
    /** The public key or the upstream that it names; null for kinds that name none. */
    justifiedBy: text('justified_by'),
    origin: text('origin'),
    revision: integer('revision').notNull().default(1),
    recordedAt: integer('recorded_at').notNull(),
  },
  (table) => [index('paths_by_nar').on(table.narId)],
);

/** Who refers to whom, by ids of `store_hashes`. No self-references. */
export const referenceEdges: Table<'referrer' | 'reference'> = sqliteTable(
  'reference_edges',
  {
    referrer: integer('referrer')
      .notNull()
      .references(() => storeHashes.id),
    reference: integer('reference')
      .notNull()
      .references(() => storeHashes.id),
  },
  (table) => [
    primaryKey({ columns: [table.referrer, table.reference] }),
    index('reference_edges_reverse').on(table.reference, table.referrer),
  ],
);

/** The NARs present or evicting, summed in a fixed number of rows, so that a total is not a scan. */
export const sizeCounters: Table<'shard' | 'presentBytes' | 'presentNars'> = sqliteTable('size_counters', {
  shard: integer('shard').primaryKey(),
  presentBytes: integer('present_bytes').notNull().default(0),
  presentNars: integer('present_nars').notNull().default(0),
});

/** Roots that are kept, with all that they refer to. */
export const pins: Table<PinColumn> = sqliteTable('pins', {
  id: integer('id').primaryKey(),
  name: text('name').notNull().unique(),
  nodeId: integer('node_id')
    .notNull()
    .references(() => storeHashes.id),
  storePath: text('store_path').notNull(),
  createdAt: integer('created_at').notNull(),
  /** Null: never. */
  expiresAt: integer('expires_at'),
});

/** The closure of each pin, as far as it is known. */
export const pinnedPaths: Table<'pinId' | 'nodeId'> = sqliteTable(
  'pinned_paths',
  {
    pinId: integer('pin_id')
      .notNull()
      .references(() => pins.id),
    nodeId: integer('node_id')
      .notNull()
      .references(() => storeHashes.id),
  },
  (table) => [
    primaryKey({ columns: [table.pinId, table.nodeId] }),
    index('pinned_paths_by_node').on(table.nodeId, table.pinId),
  ],
);

/** Paths that are not to come back. */
export const bans: Table<BanColumn> = sqliteTable('bans', {
  hash: text('hash').primaryKey(),
  storePath: text('store_path').notNull(),
  reason: text('reason').notNull(),
  bannedAt: integer('banned_at').notNull(),
});

/** Facts about the index itself. */
export const meta: Table<'key' | 'value'> = sqliteTable('meta', {
  key: text('key').primaryKey(),
  value: text('value').notNull(),
});

/**
 * Leases of locks, where there is no lock service: those held, and those whose holders died until they are cleaned
 * up. Times are this database's, in milliseconds since the epoch.
 */
export const leases: Table<'name' | 'token' | 'endsAt'> = sqliteTable('leases', {
  name: text('name').primaryKey(),
  token: text('token').notNull(),
  endsAt: integer('ends_at').notNull(),
});
