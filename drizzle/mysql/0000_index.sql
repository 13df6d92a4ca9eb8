CREATE TABLE `leases` (
	`name` varbinary(1024) NOT NULL,
	`token` varbinary(255) NOT NULL,
	`ends_at` bigint NOT NULL,
	CONSTRAINT `leases_name` PRIMARY KEY(`name`)
);
--> statement-breakpoint
CREATE TABLE `meta` (
	`key` varchar(255) character set utf8mb4 collate utf8mb4_bin NOT NULL,
	`value` mediumtext character set utf8mb4 collate utf8mb4_bin NOT NULL,
	CONSTRAINT `meta_key` PRIMARY KEY(`key`)
);
--> statement-breakpoint
CREATE TABLE `nars` (
	`id` bigint AUTO_INCREMENT NOT NULL,
	`key` varchar(512) character set utf8mb4 collate utf8mb4_bin NOT NULL,
	`compression` varchar(32) character set utf8mb4 collate utf8mb4_bin NOT NULL,
	`file_hash` mediumtext character set utf8mb4 collate utf8mb4_bin,
	`file_size` bigint,
	`source_upstream` mediumtext character set utf8mb4 collate utf8mb4_bin,
	`source_url` mediumtext character set utf8mb4 collate utf8mb4_bin,
	`state` varchar(16) character set utf8mb4 collate utf8mb4_bin NOT NULL DEFAULT 'known',
	`verification` varchar(16) character set utf8mb4 collate utf8mb4_bin NOT NULL DEFAULT 'none',
	`generation` bigint NOT NULL DEFAULT 0,
	`last_access` bigint NOT NULL DEFAULT 0,
	`quarantine_reason` mediumtext character set utf8mb4 collate utf8mb4_bin,
	CONSTRAINT `nars_id` PRIMARY KEY(`id`),
	CONSTRAINT `nars_key_unique` UNIQUE(`key`)
);
--> statement-breakpoint
CREATE TABLE `paths` (
	`id` bigint AUTO_INCREMENT NOT NULL,
	`node_id` bigint NOT NULL,
	`nar_id` bigint NOT NULL,
	`store_path` mediumtext character set utf8mb4 collate utf8mb4_bin NOT NULL,
	`nar_hash` mediumtext character set utf8mb4 collate utf8mb4_bin NOT NULL,
	`nar_size` bigint NOT NULL,
	`references` mediumtext character set utf8mb4 collate utf8mb4_bin NOT NULL,
	`deriver` mediumtext character set utf8mb4 collate utf8mb4_bin,
	`ca` mediumtext character set utf8mb4 collate utf8mb4_bin,
	`signatures` mediumtext character set utf8mb4 collate utf8mb4_bin NOT NULL,
	`extra` mediumtext character set utf8mb4 collate utf8mb4_bin NOT NULL,
	`justification` mediumtext character set utf8mb4 collate utf8mb4_bin NOT NULL,
	`justified_by` mediumtext character set utf8mb4 collate utf8mb4_bin,
	`origin` mediumtext character set utf8mb4 collate utf8mb4_bin,
	`revision` bigint NOT NULL DEFAULT 1,
	`recorded_at` bigint NOT NULL,
	CONSTRAINT `paths_id` PRIMARY KEY(`id`),
	CONSTRAINT `paths_node_id_unique` UNIQUE(`node_id`)
);
--> statement-breakpoint
CREATE TABLE `reference_edges` (
	`referrer` bigint NOT NULL,
	`reference` bigint NOT NULL,
	CONSTRAINT `reference_edges_referrer_reference_pk` PRIMARY KEY(`referrer`,`reference`)
);
--> statement-breakpoint
CREATE TABLE `size_counters` (
	`shard` int NOT NULL,
	`present_bytes` bigint NOT NULL DEFAULT 0,
	`present_nars` bigint NOT NULL DEFAULT 0,
	CONSTRAINT `size_counters_shard` PRIMARY KEY(`shard`)
);
--> statement-breakpoint
CREATE TABLE `store_hashes` (
	`id` bigint AUTO_INCREMENT NOT NULL,
	`hash` varchar(32) character set utf8mb4 collate utf8mb4_bin NOT NULL,
	CONSTRAINT `store_hashes_id` PRIMARY KEY(`id`),
	CONSTRAINT `store_hashes_hash_unique` UNIQUE(`hash`)
);
--> statement-breakpoint
ALTER TABLE `paths` ADD CONSTRAINT `paths_node_id_store_hashes_id_fk` FOREIGN KEY (`node_id`) REFERENCES `store_hashes`(`id`) ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE `paths` ADD CONSTRAINT `paths_nar_id_nars_id_fk` FOREIGN KEY (`nar_id`) REFERENCES `nars`(`id`) ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE `reference_edges` ADD CONSTRAINT `reference_edges_referrer_store_hashes_id_fk` FOREIGN KEY (`referrer`) REFERENCES `store_hashes`(`id`) ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE `reference_edges` ADD CONSTRAINT `reference_edges_reference_store_hashes_id_fk` FOREIGN KEY (`reference`) REFERENCES `store_hashes`(`id`) ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX `nars_eviction` ON `nars` (`state`,`last_access`,`id`);--> statement-breakpoint
CREATE INDEX `nars_unverified` ON `nars` (`state`,`verification`,`id`);--> statement-breakpoint
CREATE INDEX `paths_by_nar` ON `paths` (`nar_id`,`id`);--> statement-breakpoint
CREATE INDEX `reference_edges_reverse` ON `reference_edges` (`reference`,`referrer`);--> statement-breakpoint
-- By hand: these rows (see src/database/mysql/schema.ts).
INSERT INTO `size_counters` (`shard`) VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15) ON DUPLICATE KEY UPDATE `shard` = `shard`;
