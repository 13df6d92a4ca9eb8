import { reset } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { describe, expect, inject, it } from 'vitest';
import { MetadataError } from '../../src/database/metadata-store.ts';
import type { MetadataStore } from '../../src/database/metadata-store.ts';
import { createD1Store, D1_MIGRATIONS } from '../../src/database/sqlite/d1.ts';
import type { D1DatabaseLike } from '../../src/database/sqlite/d1.ts';
import { hashOf, keyOf, record, storedNar } from '../contract/database/records.ts';
import { freshDatabase } from './d1-database.ts';

interface Subject {
  readonly store: MetadataStore;
  /** The SQL of each trip to the database. */
  readonly trips: (readonly string[])[];
  /** Milliseconds slept between attempts. */
  readonly pauses: readonly number[];
}

/** The store over a database that throws the faults given first, before it is asked or (`lost`) after. */
function open(database: D1Database, faults: readonly (string | { readonly lost: string })[] = []): Subject {
  const trips: (readonly string[])[] = [];
  const pauses: number[] = [];
  const plain: D1DatabaseLike = database;
  const left = [...faults];
  const sqlOf = new WeakMap<object, string>();

  async function trip<Result>(sql: readonly string[], work: () => Promise<Result>): Promise<Result> {
    trips.push(sql);
    const fault = left.shift();
    if (typeof fault === 'string') throw new Error(fault);
    const result = await work();
    if (fault !== undefined) throw new Error(fault.lost);
    return result;
  }

  const watched: D1DatabaseLike = {
    prepare(sql) {
      const statement = database.prepare(sql);
      return {
        bind(...values) {
          const bound = statement.bind(...values);
          sqlOf.set(bound, sql);
          const all = bound.all.bind(bound);
          bound.all = <Row>() => trip([sql], () => all<Row>());
          return bound;
        },
        all: () => statement.all(),
      };
    },
    batch: (statements) =>
      trip(
        statements.map((statement) => sqlOf.get(statement) ?? ''),
        () => plain.batch(statements),
      ),
  };
  const store = createD1Store({
    database: watched,
    description: 'd1:DB',
    sleep: async (milliseconds) => {
      pauses.push(milliseconds);
    },
    random: () => 0.5,
  });
  return { store, trips, pauses };
}

const LOST = 'D1_ERROR: Network connection lost.';

describe('The index on D1', () => {
  it('asks one thing for a hit, and nothing when it is opened', async () => {
    const database = await freshDatabase();
    const { store, trips } = open(database);
    expect(trips).toEqual([]);
    await record(store, 1, [2]);
    expect(trips).toHaveLength(1);
    trips.length = 0;
    expect((await store.getPath(hashOf(1)))?.path.hash).toBe(hashOf(1));
    expect(trips).toHaveLength(1);
    expect(trips[0]).toHaveLength(1);
  });

  it('keeps sums as integers', async () => {
    const { store } = open(await freshDatabase());
    await record(store, 1);
    await store.markPresent(keyOf(1), storedNar(1, { fileSize: 2 ** 52 + 1 }));
    const types = await env.DB.prepare(
      'select distinct typeof(present_bytes) as type from size_counters union select typeof(last_access) from nars',
    ).all();
    expect(types.results).toEqual([{ type: 'integer' }]);
    expect(await store.totals()).toEqual({ presentBytes: 2 ** 52 + 1, presentNars: 1 });
  });

  it('does all of a batch or none', async () => {
    const { store } = open(await freshDatabase());
    await record(store, 1);
    await env.DB.prepare(
      `create trigger refuse before update on nars begin select raise(abort, 'no'); end`,
    ).run();
    await expect(store.markPresent(keyOf(1), storedNar(1))).rejects.toThrow(MetadataError);
    expect(await store.totals()).toEqual({ presentBytes: 0, presentNars: 0 });
  });
});

describe('A fault of D1', () => {
  it.each([
    'D1_ERROR: Network connection lost.',
    'D1_ERROR: D1 DB reset because its code was updated.',
    'D1_ERROR: Internal error while starting up D1 DB storage caused object to be reset.',
    'D1_ERROR: Internal error in D1 DB storage caused object to be reset.',
    'D1_ERROR: Cannot resolve D1 DB due to transient issue on remote node.',
    `D1_ERROR: Can't read from request stream because client disconnected.`,
  ])('that passes is met by further attempts: %s', async (fault) => {
    const { store, trips, pauses } = open(await freshDatabase(), [fault, fault, fault]);
    expect(await store.getPath(hashOf(1))).toBeNull();
    expect(trips).toHaveLength(4);
    expect(pauses).toEqual([75, 225, 675]);
  });

  it('that does not pass in four attempts is an error', async () => {
    const { store, trips } = open(
      await freshDatabase(),
      Array.from({ length: 9 }, () => LOST),
    );
    await expect(store.ping()).rejects.toThrow(new MetadataError(`Index operation ping failed: ${LOST}`));
    expect(trips).toHaveLength(4);
  });

  it.each([
    'D1_ERROR: D1 DB is overloaded. Requests queued for too long.',
    'D1_ERROR: D1 DB is overloaded. Too many requests queued.',
    'D1_ERROR: D1 DB storage operation exceeded timeout which caused object to be reset.',
    `D1_ERROR: D1 DB's isolate exceeded its memory limit and was reset.`,
    'D1_ERROR: D1 DB exceeded its CPU time limit and was reset.',
    'D1_ERROR: UNIQUE constraint failed: nars.key: SQLITE_CONSTRAINT',
  ])('that attempts would only make worse is an error at once: %s', async (fault) => {
    const { store, trips } = open(await freshDatabase(), [fault]);
    await expect(store.ping()).rejects.toThrow(fault);
    expect(trips).toHaveLength(1);
  });

  it('after which the answer was lost repeats what was done, without harm', async () => {
    const database = await freshDatabase();
    await record(open(database, [{ lost: LOST }]).store, 1, [2]);
    const { store } = open(database, [{ lost: LOST }]);
    expect(await store.markPresent(keyOf(1), storedNar(1))).toBe(2);
    expect(await store.totals()).toEqual({ presentBytes: 501, presentNars: 1 });
    expect(await store.references(hashOf(1))).toEqual([hashOf(2)]);
  });

  it('says nothing of the values that were bound', async () => {
    const { store } = open(await freshDatabase());
    await env.DB.prepare(
      `create trigger refuse before insert on nars begin select raise(abort, 'no'); end`,
    ).run();
    const error: unknown = await record(store, 1).catch((thrown: unknown) => thrown);
    for (let cause = error; cause instanceof Error; cause = cause.cause) {
      expect(cause.message).not.toContain(hashOf(1));
      expect(cause.message).not.toContain('cache.example.org');
    }
    expect(error).toBeInstanceOf(MetadataError);
  });
});

describe('The schema in D1', () => {
  it('is made by migrations whose names this version knows', () => {
    expect(inject('migrations').map(({ name }) => name)).toEqual(D1_MIGRATIONS);
  });

  it('that is missing is an error that says what to do', async () => {
    await reset();
    const { store } = open(env.DB);
    await expect(store.getPath(hashOf(1))).rejects.toThrow(
      'Index operation getPath failed: The database has no schema: run `wrangler d1 migrations apply`',
    );
    await expect(record(store, 1)).rejects.toThrow('The database has no schema');
    await expect(store.ping()).rejects.toThrow('The database has no schema');
  });

  it('that is older or newer is an error that names the migration', async () => {
    const database = await freshDatabase();
    const { store } = open(database);
    await database.prepare('alter table paths rename column origin to origins').run();
    await expect(store.getPath(hashOf(1))).rejects.toThrow('The schema of the database was changed by hand');
    await database.prepare(`insert into d1_migrations (name) values ('0099_later.sql')`).run();
    await expect(store.getPath(hashOf(1))).rejects.toThrow(
      'The schema of the database is newer than this version, which does not know 0099_later.sql',
    );
    const last = D1_MIGRATIONS.at(-1) ?? '';
    await database.prepare('update d1_migrations set name = ? where name = ?').bind('other.sql', last).run();
    await expect(store.getPath(hashOf(1))).rejects.toThrow(
      `The schema of the database is older than this version, it lacks ${last}: run`,
    );
  });

  it('is looked at only when a statement fails for it', async () => {
    const database = await freshDatabase();
    const { store, trips } = open(database);
    await store.ping();
    await store.getPath(hashOf(1));
    expect(trips).toHaveLength(2);
    await database.prepare('drop table size_counters').run();
    await expect(store.ping()).rejects.toThrow(MetadataError);
    expect(trips.slice(2)).toEqual([
      [expect.stringContaining('size_counters')],
      [expect.stringContaining('d1_migrations')],
    ]);
  });
});
