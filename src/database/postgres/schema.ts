import { sql } from 'drizzle-orm';
import {
  bigint,
  customType,
  index,
  integer,
  type PgColumn,
  type PgTable,
  pgTable,
  primaryKey,
} from 'drizzle-orm/pg-core';
import type { BanColumn, NarColumn, PathColumn, PinColumn } from '../tables.ts';

/**
 * The tables of the index in PostgreSQL, as `src/database/sqlite/schema.ts` explains them. The migrations in
 * `drizzle/postgres` are generated from this file by `npm run db:generate`. By hand, the rows of `size_counters` are
 * written into the first one, and `"public".` is taken out of references: the tables may be in any schema.
 *
 * Texts compare by their bytes, whatever the collation of the database is: keys and hashes are equal, unique and in
 * order as they are in SQLite.
 */
type Table<Column extends string> = PgTable & Readonly<Record<Column, PgColumn>>;

const text = customType<{ data: string }>({ dataType: () => 'text collate "C"' });
const whole = (name: string) => bigint(name, { mode: 'number' });
const id = () => whole('id').primaryKey().generatedAlwaysAsIdentity();

/** The nodes of the reference graph. */
export const storeHashes: Table<'id' | 'hash'> = pgTable('store_hashes', {
  id: id(),
  hash: text('hash').notNull().unique(),
});

/** NARs: one row for each storage key. */
export const nars: Table<NarColumn> = pgTable(
  'nars',
  {
    id: id(),
    key: text('key').notNull().unique(),
    compression: text('compression').notNull(),
    fileHash: text('file_hash'),
    fileSize: whole('file_size'),
    sourceUpstream: text('source_upstream'),
    sourceUrl: text('source_url'),
    state: text('state').notNull().default('known'),
    verification: text('verification').notNull().default('none'),
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
    index('nars_unverified')
      .on(table.id)
      .where(sql`state = 'present' and verification <> 'nar'`),
  ],
);

/** Store paths with their signed facts. */
export const paths: Table<PathColumn> = pgTable(
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
export const referenceEdges: Table<'referrer' | 'reference'> = pgTable(
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
export const sizeCounters: Table<'shard' | 'presentBytes' | 'presentNars'> = pgTable('size_counters', {
  shard: integer('shard').primaryKey(),
  presentBytes: whole('present_bytes').notNull().default(0),
  presentNars: whole('present_nars').notNull().default(0),
});

/** Leases that locks fall back on, by the clock of the database, in milliseconds since the epoch. */
export const leases: Table<'name' | 'token' | 'endsAt'> = pgTable('leases', {
  name: text('name').primaryKey(),
  token: text('token').notNull(),
  endsAt: whole('ends_at').notNull(),
});

/** Roots that are kept, with all that they refer to. */
export const pins: Table<PinColumn> = pgTable('pins', {
  id: id(),
  name: text('name').notNull().unique(),
  nodeId: whole('node_id')
    .notNull()
    .references(() => storeHashes.id),
  storePath: text('store_path').notNull(),
  createdAt: whole('created_at').notNull(),
  expiresAt: whole('expires_at'),
});

/** The closure of each pin, as far as it is known. */
export const pinnedPaths: Table<'pinId' | 'nodeId'> = pgTable(
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
export const bans: Table<BanColumn> = pgTable('bans', {
  hash: text('hash').primaryKey(),
  storePath: text('store_path').notNull(),
  reason: text('reason').notNull(),
  bannedAt: whole('banned_at').notNull(),
});

/** Facts about the index itself. */
export const meta: Table<'key' | 'value'> = pgTable('meta', {
  key: text('key').primaryKey(),
  value: text('value').notNull(),
});
