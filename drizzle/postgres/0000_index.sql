CREATE TABLE "leases" (
	"name" text collate "C" PRIMARY KEY NOT NULL,
	"token" text collate "C" NOT NULL,
	"ends_at" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "meta" (
	"key" text collate "C" PRIMARY KEY NOT NULL,
	"value" text collate "C" NOT NULL
);
--> statement-breakpoint
CREATE TABLE "nars" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "nars_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"key" text collate "C" NOT NULL,
	"compression" text collate "C" NOT NULL,
	"file_hash" text collate "C",
	"file_size" bigint,
	"source_upstream" text collate "C",
	"source_url" text collate "C",
	"state" text collate "C" DEFAULT 'known' NOT NULL,
	"verification" text collate "C" DEFAULT 'none' NOT NULL,
	"generation" bigint DEFAULT 0 NOT NULL,
	"last_access" bigint DEFAULT 0 NOT NULL,
	"quarantine_reason" text collate "C",
	CONSTRAINT "nars_key_unique" UNIQUE("key")
);
--> statement-breakpoint
CREATE TABLE "paths" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "paths_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"node_id" bigint NOT NULL,
	"nar_id" bigint NOT NULL,
	"store_path" text collate "C" NOT NULL,
	"nar_hash" text collate "C" NOT NULL,
	"nar_size" bigint NOT NULL,
	"references" text collate "C" NOT NULL,
	"deriver" text collate "C",
	"ca" text collate "C",
	"signatures" text collate "C" NOT NULL,
	"extra" text collate "C" NOT NULL,
	"justification" text collate "C" NOT NULL,
	"justified_by" text collate "C",
	"origin" text collate "C",
	"revision" bigint DEFAULT 1 NOT NULL,
	"recorded_at" bigint NOT NULL,
	CONSTRAINT "paths_node_id_unique" UNIQUE("node_id")
);
--> statement-breakpoint
CREATE TABLE "reference_edges" (
	"referrer" bigint NOT NULL,
	"reference" bigint NOT NULL,
	CONSTRAINT "reference_edges_referrer_reference_pk" PRIMARY KEY("referrer","reference")
);
--> statement-breakpoint
CREATE TABLE "size_counters" (
	"shard" integer PRIMARY KEY NOT NULL,
	"present_bytes" bigint DEFAULT 0 NOT NULL,
	"present_nars" bigint DEFAULT 0 NOT NULL
);
--> statement-breakpoint
CREATE TABLE "store_hashes" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "store_hashes_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"hash" text collate "C" NOT NULL,
	CONSTRAINT "store_hashes_hash_unique" UNIQUE("hash")
);
--> statement-breakpoint
ALTER TABLE "paths" ADD CONSTRAINT "paths_node_id_store_hashes_id_fk" FOREIGN KEY ("node_id") REFERENCES "store_hashes"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "paths" ADD CONSTRAINT "paths_nar_id_nars_id_fk" FOREIGN KEY ("nar_id") REFERENCES "nars"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "reference_edges" ADD CONSTRAINT "reference_edges_referrer_store_hashes_id_fk" FOREIGN KEY ("referrer") REFERENCES "store_hashes"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "reference_edges" ADD CONSTRAINT "reference_edges_reference_store_hashes_id_fk" FOREIGN KEY ("reference") REFERENCES "store_hashes"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "nars_eviction" ON "nars" USING btree ("state","last_access","id");--> statement-breakpoint
CREATE INDEX "nars_unverified" ON "nars" USING btree ("id") WHERE state = 'present' and verification <> 'nar';--> statement-breakpoint
CREATE INDEX "paths_by_nar" ON "paths" USING btree ("nar_id","id");--> statement-breakpoint
CREATE INDEX "reference_edges_reverse" ON "reference_edges" USING btree ("reference","referrer");--> statement-breakpoint
-- By hand: no schema in the references above, and these rows (see src/database/postgres/schema.ts).
INSERT INTO "size_counters" ("shard") VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15);
