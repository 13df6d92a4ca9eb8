CREATE TABLE `bans` (
	`hash` text PRIMARY KEY NOT NULL,
	`store_path` text NOT NULL,
	`reason` text NOT NULL,
	`banned_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `pinned_paths` (
	`pin_id` integer NOT NULL,
	`node_id` integer NOT NULL,
	PRIMARY KEY(`pin_id`, `node_id`),
	FOREIGN KEY (`pin_id`) REFERENCES `pins`(`id`) ON UPDATE no action ON DELETE no action,
	FOREIGN KEY (`node_id`) REFERENCES `store_hashes`(`id`) ON UPDATE no action ON DELETE no action
) WITHOUT ROWID;
--> statement-breakpoint
CREATE INDEX `pinned_paths_by_node` ON `pinned_paths` (`node_id`,`pin_id`);--> statement-breakpoint
CREATE TABLE `pins` (
	`id` integer PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`node_id` integer NOT NULL,
	`store_path` text NOT NULL,
	`created_at` integer NOT NULL,
	`expires_at` integer,
	FOREIGN KEY (`node_id`) REFERENCES `store_hashes`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE UNIQUE INDEX `pins_name_unique` ON `pins` (`name`);--> statement-breakpoint
DROP INDEX `nars_eviction`;--> statement-breakpoint
ALTER TABLE `nars` ADD `accesses` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `nars` ADD `pushed` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `nars` ADD `evict_rank` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
-- By hand: WITHOUT ROWID above, and what the new columns are for the NARs known already (see src/database/sqlite/schema.ts).
UPDATE `nars` SET `pushed` = 1 WHERE `source_upstream` IS NULL;--> statement-breakpoint
UPDATE `nars` SET `evict_rank` = `last_access`, `accesses` = 1 WHERE `last_access` > 0;--> statement-breakpoint
CREATE INDEX `nars_eviction` ON `nars` (`state`,`pushed`,`evict_rank`);