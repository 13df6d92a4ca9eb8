import { createConnection, type RowDataPacket } from 'mysql2/promise';
import postgres from 'postgres';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Statement } from '../../../src/database/compile.ts';
import { migrateMysql } from '../../../src/database/mysql/migrate.ts';
import * as mysqlStatements from '../../../src/database/mysql/statements.ts';
import { migratePostgres } from '../../../src/database/postgres/migrate.ts';
import * as postgresStatements from '../../../src/database/postgres/statements.ts';
import { createPostgresStore } from '../../../src/database/postgres/store.ts';
import { migrationsFor } from '../../../src/database/read-migrations.ts';
import { narValues, pathValues, type Value } from '../../../src/database/rows.ts';
import { mysqlMissing, startMysql } from '../../support/mysql-server.ts';
import { postgresMissing, startPostgres } from '../../support/postgres-server.ts';
import { startTcpProxy } from '../../support/tcp-proxy.ts';
import { hashOf, keyOf, narOf, NOW, pathOf, record, storedNar } from './records.ts';
import { atPort } from './server-subject.ts';

/** Of each table that grows. */
const ROWS = 5000;

/** For every statement: it takes what it needs. */
const VALUES: Readonly<Record<string, Value>> = {
  ...pathValues(pathOf(7, [1, 2, 3])),
  ...narValues(narOf(7)),
  hashes: JSON.stringify([1, 2, 3].map(hashOf)),
  nodes: JSON.stringify([7, 1, 2, 3].map(hashOf)),
  accesses: JSON.stringify([1, 2, 3].map((number) => [keyOf(number), 2 * NOW])),
  interval: 3_600_000,
  after: 100,
  limit: 20,
  atRevision: 1,
  generation: 1,
  at: NOW,
  verification: 'nar',
  reason: 'wrong',
};

type Compiled = (values: Readonly<Record<string, Value>>) => Statement;

function statementsOf(module: { readonly reads: object } & object): readonly [name: string, Compiled][] {
  const { reads, ...writes } = module;
  return Object.entries({ ...reads, ...writes }).filter(
    (entry): entry is [string, Compiled] => typeof entry[1] === 'function' && !/Lease|Applied/.test(entry[0]),
  );
}

const noPostgres = postgresMissing();
describe.skipIf(noPostgres !== null)(
  `PostgreSQL${noPostgres === null ? '' : `: ${noPostgres}`}`,
  async () => {
    if (noPostgres !== null) return;
    const server = await startPostgres();
    const url = await server.createDatabase();
    const sql = postgres(url, { max: 1, onnotice: () => undefined });
    afterAll(async () => {
      await sql.end();
      await server.stop();
    });

    beforeAll(async () => {
      await migratePostgres(url, migrationsFor('postgres'));
      await sql.unsafe(`
      insert into store_hashes (hash) select lpad(n::text, 32, '0') from generate_series(1, ${ROWS}) n;
      insert into nars (key, compression, file_size, state, verification, generation, last_access)
        select 'nar/' || lpad(n::text, 32, '0') || '.nar.xz', 'xz', n, 'present',
          case when n % 100 = 0 then 'file' else 'nar' end, 1, n from generate_series(1, ${ROWS}) n;
      insert into paths (node_id, nar_id, store_path, nar_hash, nar_size, "references", signatures, extra,
          justification, recorded_at)
        select n, n, '/nix/store/x', 'sha256:x', n, '', '[]', '[]', 'pushed', n from generate_series(1, ${ROWS}) n;
      insert into reference_edges select n, 1 + (n * 7 + k) % ${ROWS} from generate_series(1, ${ROWS}) n,
        generate_series(1, 3) k on conflict do nothing`);
      await sql.unsafe('analyze');
      // A whole table is read then only where no index can do it; a small table is quicker read than looked up.
      await sql.unsafe('set enable_seqscan = off');
    });

    it.each(statementsOf(postgresStatements))(
      '%s reads no table that grows as a whole',
      async (_, compiled) => {
        const { sql: text, params } = compiled(VALUES);
        const plan = await sql.unsafe<{ 'QUERY PLAN': string }[]>(`explain ${text}`, [...params]);
        const steps = plan.map((row) => row['QUERY PLAN']);
        expect(steps.join('\n')).not.toMatch(/Seq Scan on (nars|paths|store_hashes|reference_edges)/);
      },
    );

    it('the next NARs to evict come in order from an index', async () => {
      const plan = await sql.unsafe<{ 'QUERY PLAN': string }[]>(
        `explain select id from nars where state = 'present' and pushed = 0 order by evict_rank, id limit 10`,
      );
      const steps = plan.map((row) => row['QUERY PLAN']).join('\n');
      expect(steps).toContain('using nars_eviction');
      expect(steps).not.toContain('Sort');
    });

    it('every operation is one round trip, whatever it does', async () => {
      const proxy = await startTcpProxy(server.port);
      const store = await createPostgresStore({
        url: atPort(await server.createDatabase(), proxy.port),
        poolSize: 1,
        checkSchema: 'on-fault',
      });
      await migratePostgres(server.urlOf('test_2'), migrationsFor('postgres'));
      await store.ping();
      const operations: readonly (() => Promise<unknown>)[] = [
        () => record(store, 1, [2, 3, 4]),
        () => store.getPath(hashOf(1)),
        () => store.getNar(keyOf(1)),
        () => store.replacePath(pathOf(1, [5]), narOf(2), 1),
        () => store.rejustifyPath(hashOf(1), 2, { signatures: [], justification: { kind: 'pushed' } }),
        () => store.markPresent(keyOf(2), storedNar(2)),
        () => store.markVerified(keyOf(2), 1),
        () => store.listUnverified(0, 10),
        () => store.listPaths(0, 10),
        () => store.touch([{ key: keyOf(2), at: 2 * NOW }]),
        () => store.references(hashOf(1)),
        () => store.closure([hashOf(1)]),
        () => store.markAbsent(keyOf(2), 1),
        () => store.markQuarantined(keyOf(2), 'wrong'),
        () => store.totals(),
        () => store.leases.take('fill', 'me', 1000),
        () => store.leases.extend('fill', 'me', 1000),
        () => store.leases.release('fill', 'me'),
      ];
      for (const operation of operations) {
        const before = proxy.roundTrips;
        await operation();
        expect(proxy.roundTrips - before, String(operation)).toBe(1);
      }
      await store.close();
      await proxy.close();
    });
  },
);

const noMysql = mysqlMissing();
describe.skipIf(noMysql !== null)(`MariaDB${noMysql === null ? '' : `: ${noMysql}`}`, async () => {
  if (noMysql !== null) return;
  const server = await startMysql();
  const url = await server.createDatabase();
  const connection = await createConnection(url);
  afterAll(async () => {
    await connection.end();
    await server.stop();
  });

  beforeAll(async () => {
    await migrateMysql(url, migrationsFor('mysql'));
    for (const text of [
      `insert into store_hashes (id, hash) select seq, lpad(seq, 32, '0') from seq_1_to_${ROWS}`,
      `insert into nars (id, \`key\`, compression, file_size, state, verification, generation, last_access)
        select seq, concat('nar/', lpad(seq, 32, '0'), '.nar.xz'), 'xz', seq, 'present',
          if(seq % 100 = 0, 'file', 'nar'), 1, seq from seq_1_to_${ROWS}`,
      `insert into paths (node_id, nar_id, store_path, nar_hash, nar_size, \`references\`, signatures, extra,
          justification, recorded_at)
        select seq, seq, '/nix/store/x', 'sha256:x', 1, '', '[]', '[]', 'pushed', 1 from seq_1_to_${ROWS}`,
      `insert into reference_edges select seq, 1 + (seq * 7) % ${ROWS} from seq_1_to_${ROWS}`,
      'analyze table store_hashes, nars, paths, reference_edges',
    ])
      await connection.query(text);
  });

  it.each(statementsOf(mysqlStatements))('%s reads no table that grows as a whole', async (_, compiled) => {
    const { sql: text, params } = compiled(VALUES);
    const [plan] = await connection.query<RowDataPacket[]>(`explain ${text}`, [...params]);
    const whole = plan.filter(
      (row) =>
        /^(ALL|index)$/.test(String(row['type'])) &&
        row['select_type'] !== 'INSERT' &&
        /^(nars|paths|store_hashes|reference_edges|known|referred)$/.test(String(row['table'])),
    );
    expect(whole).toEqual([]);
  });

  it('the next NARs to evict come in order from an index', async () => {
    const [plan] = await connection.query<RowDataPacket[]>(
      `explain select id from nars where state = 'present' and pushed = 0 order by evict_rank, id limit 10`,
    );
    expect(plan[0]?.['key']).toBe('nars_eviction');
    expect(plan[0]?.['Extra']).not.toContain('filesort');
  });
});
