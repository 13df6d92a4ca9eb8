import { applyD1Migrations, reset } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { inject } from 'vitest';

/** The database, emptied and with our schema. */
export async function freshDatabase(): Promise<D1Database> {
  await reset();
  await applyD1Migrations(env.DB, [...inject('migrations')]);
  return env.DB;
}
