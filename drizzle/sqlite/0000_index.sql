CREATE TABLE `meta` (
	`key` text PRIMARY KEY NOT NULL,
	`value` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `nars` (
	`id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`key` text NOT NULL,
	`compression` text NOT NULL,
	`file_hash` text,
	`file_size` integer,
	`source_upstream` text,
	`source_url` text,
	`state` text DEFAULT 'known' NOT NULL,
	`verification` text DEFAULT 'none' NOT NULL,
	`generation` integer DEFAULT 0 NOT NULL,
	`last_access` integer DEFAULT 0 NOT NULL,
	`quarantine_reason` text
);
--> statement-breakpoint
CREATE UNIQUE INDEX `nars_key_unique` ON `nars` (`key`);--> statement-breakpoint
CREATE INDEX `nars_eviction` ON `nars` (`state`,`last_access`);--> statement-breakpoint
CREATE INDEX `nars_unverified` ON `nars` (`state`) WHERE state = 'present' and verification <> 'nar';--> statement-breakpoint
CREATE TABLE `paths` (
	`id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`node_id` integer NOT NULL,
	`nar_id` integer NOT NULL,
	`store_path` text NOT NULL,
	`nar_hash` text NOT NULL,
	`nar_size` integer NOT NULL,
	`references` text NOT NULL,
	`deriver` text,
	`ca` text,
	`signatures` text NOT NULL,
	`extra` text NOT NULL,
	`justification` text NOT NULL,
	`justified_by` text,
	`origin` text,
	`revision` integer DEFAULT 1 NOT NULL,
	`recorded_at` integer NOT NULL,
	FOREIGN KEY (`node_id`) REFERENCES `store_hashes`(`id`) ON UPDATE no action ON DELETE no action,
	FOREIGN KEY (`nar_id`) REFERENCES `nars`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE UNIQUE INDEX `paths_node_id_unique` ON `paths` (`node_id`);--> statement-breakpoint
CREATE INDEX `paths_by_nar` ON `paths` (`nar_id`);--> statement-breakpoint
CREATE TABLE `reference_edges` (
	`referrer` integer NOT NULL,
	`reference` integer NOT NULL,
	PRIMARY KEY(`referrer`, `reference`),
	FOREIGN KEY (`referrer`) REFERENCES `store_hashes`(`id`) ON UPDATE no action ON DELETE no action,
	FOREIGN KEY (`reference`) REFERENCES `store_hashes`(`id`) ON UPDATE no action ON DELETE no action
) WITHOUT ROWID;
--> statement-breakpoint
CREATE INDEX `reference_edges_reverse` ON `reference_edges` (`reference`,`referrer`);--> statement-breakpoint
CREATE TABLE `size_counters` (
	`shard` integer PRIMARY KEY NOT NULL,
	`present_bytes` integer DEFAULT 0 NOT NULL,
	`present_nars` integer DEFAULT 0 NOT NULL
);
--> statement-breakpoint
CREATE TABLE `store_hashes` (
	`id` integer PRIMARY KEY NOT NULL,
	`hash` text NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `store_hashes_hash_unique` ON `store_hashes` (`hash`);--> statement-breakpoint
-- By hand: WITHOUT ROWID above, and these rows (see src/database/sqlite/schema.ts).
INSERT INTO `size_counters` (`shard`) VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15);
