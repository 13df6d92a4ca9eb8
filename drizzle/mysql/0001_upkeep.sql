CREATE TABLE `bans` (
	`hash` varchar(32) character set utf8mb4 collate utf8mb4_bin NOT NULL,
	`store_path` mediumtext character set utf8mb4 collate utf8mb4_bin NOT NULL,
	`reason` mediumtext character set utf8mb4 collate utf8mb4_bin NOT NULL,
	`banned_at` bigint NOT NULL,
	CONSTRAINT `bans_hash` PRIMARY KEY(`hash`)
);
--> statement-breakpoint
CREATE TABLE `pinned_paths` (
	`pin_id` bigint NOT NULL,
	`node_id` bigint NOT NULL,
	CONSTRAINT `pinned_paths_pin_id_node_id_pk` PRIMARY KEY(`pin_id`,`node_id`)
);
--> statement-breakpoint
CREATE TABLE `pins` (
	`id` bigint AUTO_INCREMENT NOT NULL,
	`name` varchar(255) character set utf8mb4 collate utf8mb4_bin NOT NULL,
	`node_id` bigint NOT NULL,
	`store_path` mediumtext character set utf8mb4 collate utf8mb4_bin NOT NULL,
	`created_at` bigint NOT NULL,
	`expires_at` bigint,
	CONSTRAINT `pins_id` PRIMARY KEY(`id`),
	CONSTRAINT `pins_name_unique` UNIQUE(`name`)
);
--> statement-breakpoint
DROP INDEX `nars_eviction` ON `nars`;--> statement-breakpoint
ALTER TABLE `nars` ADD `accesses` bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `nars` ADD `pushed` bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `nars` ADD `evict_rank` bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
-- By hand: what the new columns are for the NARs known already (see src/database/sqlite/schema.ts).
UPDATE `nars` SET `pushed` = 1 WHERE `source_upstream` IS NULL;--> statement-breakpoint
UPDATE `nars` SET `evict_rank` = `last_access`, `accesses` = 1 WHERE `last_access` > 0;--> statement-breakpoint
ALTER TABLE `pinned_paths` ADD CONSTRAINT `pinned_paths_pin_id_pins_id_fk` FOREIGN KEY (`pin_id`) REFERENCES `pins`(`id`) ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE `pinned_paths` ADD CONSTRAINT `pinned_paths_node_id_store_hashes_id_fk` FOREIGN KEY (`node_id`) REFERENCES `store_hashes`(`id`) ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE `pins` ADD CONSTRAINT `pins_node_id_store_hashes_id_fk` FOREIGN KEY (`node_id`) REFERENCES `store_hashes`(`id`) ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX `pinned_paths_by_node` ON `pinned_paths` (`node_id`,`pin_id`);--> statement-breakpoint
CREATE INDEX `nars_eviction` ON `nars` (`state`,`pushed`,`evict_rank`,`id`);