CREATE TABLE "bans" (
	"hash" text collate "C" PRIMARY KEY NOT NULL,
	"store_path" text collate "C" NOT NULL,
	"reason" text collate "C" NOT NULL,
	"banned_at" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "pinned_paths" (
	"pin_id" bigint NOT NULL,
	"node_id" bigint NOT NULL,
	CONSTRAINT "pinned_paths_pin_id_node_id_pk" PRIMARY KEY("pin_id","node_id")
);
--> statement-breakpoint
CREATE TABLE "pins" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "pins_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"name" text collate "C" NOT NULL,
	"node_id" bigint NOT NULL,
	"store_path" text collate "C" NOT NULL,
	"created_at" bigint NOT NULL,
	"expires_at" bigint,
	CONSTRAINT "pins_name_unique" UNIQUE("name")
);
--> statement-breakpoint
DROP INDEX "nars_eviction";--> statement-breakpoint
ALTER TABLE "nars" ADD COLUMN "accesses" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "nars" ADD COLUMN "pushed" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "nars" ADD COLUMN "evict_rank" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
-- By hand: what the new columns are for the NARs known already (see src/database/sqlite/schema.ts).
UPDATE "nars" SET "pushed" = 1 WHERE "source_upstream" IS NULL;--> statement-breakpoint
UPDATE "nars" SET "evict_rank" = "last_access", "accesses" = 1 WHERE "last_access" > 0;--> statement-breakpoint
ALTER TABLE "pinned_paths" ADD CONSTRAINT "pinned_paths_pin_id_pins_id_fk" FOREIGN KEY ("pin_id") REFERENCES "pins"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "pinned_paths" ADD CONSTRAINT "pinned_paths_node_id_store_hashes_id_fk" FOREIGN KEY ("node_id") REFERENCES "store_hashes"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "pins" ADD CONSTRAINT "pins_node_id_store_hashes_id_fk" FOREIGN KEY ("node_id") REFERENCES "store_hashes"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "pinned_paths_by_node" ON "pinned_paths" USING btree ("node_id","pin_id");--> statement-breakpoint
CREATE INDEX "nars_eviction" ON "nars" USING btree ("state","pushed","evict_rank","id");