import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { patienceOf } from '../../../src/database/sqlite/busy.ts';
import { databaseSyncExecutor } from '../../../src/database/sqlite/database-sync.ts';
import { createMetadataStore } from '../../../src/database/sqlite/store.ts';
import { notedIndex } from './noted-index.ts';
import { hashOf, keyOf, narOf, NOW, pathOf, record, storedNar } from './records.ts';

/** D1's limit: https://developers.cloudflare.com/d1/platform/limits/ */
const MOST_PARAMETERS = 100;

const { database, store, trips, tripsOf, planOf } = notedIndex();

beforeAll(async () => {
  for (let number = 1; number <= 300; number++) {
    await record(store, number, [number + 1, number + 2, 1]);
    await store.markPresent(keyOf(number), storedNar(number));
  }
});
afterAll(() => store.close());

/** Those that read, and those of the leases, which never need a batch. */
const single: readonly [name: string, operation: () => Promise<unknown>][] = [
  ['getPath', () => store.getPath(hashOf(7))],
  ['getNar', () => store.getNar(keyOf(7))],
  ['listPaths', () => store.listPaths(10, 5)],
  ['listUnverified', () => store.listUnverified(10, 5)],
  ['references', () => store.references(hashOf(7))],
  ['closure', () => store.closure([hashOf(7), hashOf(9)])],
  ['totals', () => store.totals()],
  ['ping', () => store.ping()],
  ['leases.take', () => store.leases.take('fill:nar/a', 'token', 60_000)],
  ['leases.take of what another holds', () => store.leases.take('fill:nar/a', 'another', 60_000)],
  ['leases.extend', () => store.leases.extend('fill:nar/a', 'token', 60_000)],
  ['leases.release', () => store.leases.release('fill:nar/a', 'token')],
  ['leases.ping', () => store.leases.ping()],
];
const writing: readonly [name: string, operation: () => Promise<unknown>][] = [
  ['recordPath', () => record(store, 500, [7, 8, 9])],
  ['replacePath', () => store.replacePath(pathOf(7, [1]), narOf(600), 1)],
  [
    'rejustifyPath',
    () => store.rejustifyPath(hashOf(8), 1, { signatures: [], justification: { kind: 'pushed' } }),
  ],
  ['markPresent', () => store.markPresent(keyOf(7), storedNar(7))],
  ['markAbsent', () => store.markAbsent(keyOf(9), 1)],
  ['markQuarantined', () => store.markQuarantined(keyOf(10), 'wrong')],
  ['markVerified', () => store.markVerified(keyOf(11), 1)],
  ['touch', () => store.touch([{ key: keyOf(11), at: 2 * NOW }])],
];

describe('The statements of the index', () => {
  it.each(single)('%s is exactly one statement', async (_, operation) => {
    expect(await tripsOf(operation)).toMatchObject([{ kind: 'statement', statements: [{}] }]);
  });

  it.each(writing)('%s is one statement or one batch', async (_, operation) => {
    expect(await tripsOf(operation)).toHaveLength(1);
  });

  it.each([...single, ...writing])('%s scans no table that grows', async (_, operation) => {
    for (const { statements } of await tripsOf(operation)) {
      for (const { sql, params } of statements) {
        const steps = planOf({ sql, params });
        const scans = steps.filter((step) =>
          /^SCAN (nars|paths|store_hashes|reference_edges|referred|leases)\b/.test(step),
        );
        // `referred` is also the name of a list of JSON in one statement.
        expect(scans.filter((step) => !step.includes('VIRTUAL TABLE'))).toEqual([]);
        expect(steps.filter((step) => /AUTOMATIC|TEMP B-TREE FOR ORDER BY/.test(step))).toEqual([]);
      }
    }
  });

  it('a hit finds hash, path and NAR by one index each', async () => {
    const [trip] = await tripsOf(() => store.getPath(hashOf(7)));
    const plan = database.prepare(`explain query plan ${trip?.statements[0]?.sql}`).all(hashOf(7));
    expect(plan.map((row) => row['detail'])).toEqual([
      expect.stringMatching(/^SEARCH store_hashes USING COVERING INDEX store_hashes_hash_unique/),
      expect.stringMatching(/^SEARCH paths USING INDEX paths_node_id_unique/),
      expect.stringMatching(/^SEARCH nars USING INTEGER PRIMARY KEY/),
    ]);
  });

  it('the next NARs to evict come in order from an index', async () => {
    const page = { pushed: false, after: { rank: 1, id: 1 }, accessedBefore: 9, now: 1, limit: 10 };
    const [trip] = await tripsOf(() => store.upkeep.listEvictable(page));
    const plan = database.prepare(`explain query plan ${trip?.statements[0]?.sql}`).all();
    const steps = plan.map((row) => String(row['detail']));
    expect(steps[0]).toMatch(/^SEARCH nars USING INDEX nars_eviction/);
    expect(steps.filter((step) => /^SCAN|TEMP B-TREE/.test(step))).toEqual([]);
  });

  it('the NARs to verify come from an index of just those', async () => {
    const [trip] = await tripsOf(() => store.listUnverified(0, 5));
    const plan = database.prepare(`explain query plan ${trip?.statements[0]?.sql}`).all(0, 5);
    expect(plan.map((row) => row['detail'])).toEqual([expect.stringContaining('nars_unverified')]);
  });

  it('take no more parameters than D1 allows, however long the lists', async () => {
    const many = Array.from({ length: 3000 }, (_, at) => at + 10_000);
    const made = await tripsOf(async () => {
      await record(store, 9000, many);
      await store.replacePath(pathOf(9000, many.slice(1)), narOf(9001), 1);
      await store.closure(many.map(hashOf));
      await store.touch(many.map((number) => ({ key: keyOf(number), at: NOW })));
    });
    const counts = made.flatMap(({ statements }) => statements.map(({ params }) => params.length));
    expect(counts.length).toBeGreaterThan(10);
    expect(Math.max(...counts)).toBeLessThanOrEqual(MOST_PARAMETERS);
  });

  it('are a fixed set of texts, whatever the values', async () => {
    const texts = () => new Set(trips.flatMap(({ statements }) => statements.map(({ sql }) => sql))).size;
    const before = texts();
    for (const number of [700, 701]) {
      await store.recordPath(
        pathOf(number, [number], { deriver: null, ca: 'x', justification: { kind: 'pushed' } }),
        narOf(number, { source: null, fileHash: null, fileSize: null }),
      );
      await store.markPresent(keyOf(number), storedNar(number));
    }
    expect(texts()).toBe(before);
  });

  it('give no two columns of one name, which D1 would lose', () => {
    for (const { statements } of trips) {
      for (const { sql } of statements) {
        const names = database
          .prepare(sql)
          .columns()
          .map((column) => column.name);
        expect(new Set(names).size).toBe(names.length);
      }
    }
  });

  it('write no row for an access within the hour', async () => {
    await store.touch([{ key: keyOf(20), at: 3 * NOW }]);
    const writes = () => database.prepare('select total_changes() as changes').get()?.['changes'];
    const before = writes();
    await store.touch([{ key: keyOf(20), at: 3 * NOW + 1 }]);
    expect(writes()).toBe(before);
    await store.touch([{ key: keyOf(20), at: 4 * NOW }]);
    expect(writes()).toBe(Number(before) + 1);
  });

  it('a NAR that is being evicted counts until it is absent', async () => {
    await record(store, 800);
    await store.markPresent(keyOf(800), storedNar(800));
    await store.markVerified(keyOf(800), 1);
    const before = await store.totals();
    database.prepare(`update nars set state = 'evicting' where key = ?`).run(keyOf(800));
    expect(await store.markPresent(keyOf(800), storedNar(800, { fileSize: 1301 }))).toBe(2);
    expect(await store.totals()).toEqual({ ...before, presentBytes: before.presentBytes + 1 });
    database.prepare(`update nars set state = 'evicting' where key = ?`).run(keyOf(800));
    expect(await store.markAbsent(keyOf(800), 2)).toBe(true);
    expect(await store.totals()).toEqual({
      presentBytes: before.presentBytes - 1300,
      presentNars: before.presentNars - 1,
    });
  });

  it('sums are spread over the counters, and stay integers', () => {
    const rows = database
      .prepare('select typeof(present_bytes) as type, present_nars from size_counters')
      .all();
    expect(rows).toHaveLength(16);
    expect(new Set(rows.map((row) => row['type']))).toEqual(new Set(['integer']));
    for (const row of rows) expect(Number(row['present_nars'])).toBeGreaterThan(0);
  });

  it('the leases that ended long enough ago leave no row, nor do those released', async () => {
    const { leases } = store;
    const names = () => database.prepare('select name from leases order by name').all();
    database.exec('delete from leases');
    for (const name of ['ended', 'held', 'released']) await leases.take(name, 'token', 60_000);
    await leases.release('released', 'token');
    database.exec(`update leases set ends_at = ends_at - 90000 where name = 'ended'`);
    await leases.removeEnded(60_000);
    expect(names()).toEqual([{ name: 'ended' }, { name: 'held' }]);
    await leases.removeEnded(1000);
    expect(names()).toEqual([{ name: 'held' }]);
  });

  it('a checkpoint is called before each operation that writes', async () => {
    const steps: string[] = [];
    const checked = createMetadataStore(databaseSyncExecutor(database, patienceOf(0)), {
      description: 'test',
      checkpoint: (step) => {
        steps.push(step);
        throw new Error('killed');
      },
    });
    await expect(record(checked, 900)).rejects.toThrow('killed');
    await expect(checked.markQuarantined(keyOf(1), 'wrong')).rejects.toThrow('killed');
    expect(await checked.getPath(hashOf(900))).toBeNull();
    expect(steps).toEqual(['index.recordPath', 'index.markQuarantined']);
  });
});
