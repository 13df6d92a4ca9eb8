import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, onTestFinished } from 'vitest';
import { copyIndex, CopyIndexError, type CopyIndexReport } from '../../../src/cache/copy-index.ts';
import { COPY_MARK, REBUILDING_MARK, VERIFY_MARK } from '../../../src/cache/marks.ts';
import type { IndexStore } from '../../../src/database/index-store.ts';
import { createSqliteStore } from '../../../src/database/sqlite/node.ts';
import { COPIED_TABLES } from '../../../src/database/table-rows.ts';
import { systemClock } from '../../../src/telemetry/system-clock.ts';
import { runScript } from '../../support/checkpoint.ts';
import { mysqlMissing, startMysql } from '../../support/mysql-server.ts';
import { postgresMissing, startPostgres } from '../../support/postgres-server.ts';
import { mysqlPlaces } from './mysql-place.ts';
import { postgresPlaces } from './postgres-place.ts';
import { hashOf, HOUR, keyOf, NOW, pathOf, record } from './records.ts';
import { evict, seen, store } from './stored-nars.ts';

const CRASHING = new URL('copy-index-writer.ts', import.meta.url).pathname;

const directory = await mkdtemp(join(tmpdir(), 'snowcap-copy-index-'));
afterAll(() => rm(directory, { recursive: true, force: true }));
let files = 0;

function newFile(): string {
  return join(directory, `${++files}.db`);
}

async function sqlite(path: string = newFile()): Promise<IndexStore> {
  const index = await createSqliteStore({ path });
  onTestFinished(() => index.close());
  return index;
}

function copy(
  from: IndexStore,
  to: IndexStore,
  options: {
    readonly signal?: AbortSignal;
    readonly onProgress?: () => void;
    readonly dryRun?: boolean;
  } = {},
): Promise<CopyIndexReport> {
  return copyIndex(from, to, { platform: { clock: systemClock }, ...options });
}

/** What databases and their JSON may read in ways of their own. */
const ODD_TEXT =
  'null \\ \\n \\u0041 "x" \'y\' \t\u0001\u007f\u2028 ß \u{1F600} $[0] %s ? $1 :a ends with spaces  ';

/** Of everything that an index may hold. */
async function fill(index: IndexStore): Promise<void> {
  await store(index, 1, { references: [2, 3] });
  await store(index, 2, { pushed: true, references: [900] });
  await store(index, 3, { pushed: true, references: [2] });
  await store(index, 4, { nar: 1 });
  for (const number of [5, 6, 7, 8, 9]) await store(index, number);
  await index.touch([{ key: keyOf(1), at: NOW + 3 * HOUR }]);
  await index.touch([{ key: keyOf(1), at: NOW + 9 * HOUR }]);
  await index.markVerified(keyOf(2), 1);
  await index.markQuarantined(keyOf(5), 'its "content" is wröng\n');
  await evict(index, 6);
  await index.upkeep.markEvicting(await seen(index, 7), NOW);
  await record(index, 10, [1]);
  await index.recordPath(
    pathOf(11, [], { deriver: null, ca: 'fixed:r:sha256:x', extra: [['Zoë', '1 "2"']], signatures: [] }),
    { key: 'nar/11.nar', compression: 'none', fileHash: null, fileSize: null, source: null },
  );
  const known = await index.getPath(hashOf(8));
  await index.rejustifyPath(hashOf(8), known?.path.revision ?? 0, {
    signatures: ['a-1:b'],
    justification: { kind: 'pushed' },
  });
  const pin = { name: 'system', storePath: pathOf(1).storePath, hash: hashOf(1), createdAt: NOW };
  await index.upkeep.putPin({ ...pin, expiresAt: null });
  await index.upkeep.putPin({ ...pin, name: 'soon', expiresAt: NOW + HOUR });
  await index.upkeep.banPath({ hash: hashOf(9), storePath: pathOf(9).storePath, reason: ODD_TEXT, at: NOW });
  const large = Number.MAX_SAFE_INTEGER;
  await index.recordPath(pathOf(12, [], { narSize: large, recordedAt: large - 1 }), {
    key: 'nar/12.nar',
    compression: 'none',
    fileHash: null,
    fileSize: large,
    source: { upstream: 'https://cache.example.org', url: `nar/12.nar?hash=${'é'.repeat(2000)}` },
  });
  // Ids with gaps, which stay.
  await index.upkeep.removePath(hashOf(4));
  await index.upkeep.setMark(VERIFY_MARK, '{"phase":"rows"}');
}

/** Every row of every table. */
async function rowsOf(index: IndexStore): Promise<unknown> {
  const tables: Record<string, unknown> = {};
  for (const table of COPIED_TABLES) tables[table] = await index.rows.list(table, null, 10_000);
  return tables;
}

/** Nothing differs, all that is asked of an index is answered alike, and new rows find their place. */
async function expectCopied(from: IndexStore, to: IndexStore): Promise<void> {
  expect(await rowsOf(to)).toEqual(await rowsOf(from));
  expect(await to.totals()).toEqual(await from.totals());
  expect(await to.upkeep.listPins()).toEqual(await from.upkeep.listPins());
  expect(await to.upkeep.listBans()).toEqual(await from.upkeep.listBans());
  expect(await to.listPaths(0, 100)).toEqual(await from.listPaths(0, 100));
  const page = { after: null, accessedBefore: Number.MAX_SAFE_INTEGER, now: NOW, limit: 100 };
  for (const pushed of [true, false]) {
    expect(await to.upkeep.listEvictable({ ...page, pushed })).toEqual(
      await from.upkeep.listEvictable({ ...page, pushed }),
    );
  }
  expect(await to.upkeep.getMark(REBUILDING_MARK)).toBeNull();
  expect(await to.upkeep.getMark(COPY_MARK)).toBeNull();
}

const noPostgres = postgresMissing();
const noMysql = mysqlMissing();
const missing = noPostgres ?? noMysql;

describe.skipIf(missing !== null)(
  `an index is copied between SQLite, PostgreSQL and MariaDB${missing === null ? '' : `: ${missing}`}`,
  async () => {
    if (missing !== null) return;
    const [postgres, mysql] = await Promise.all([startPostgres(), startMysql()]);
    afterAll(async () => {
      await Promise.all([postgres.stop(), mysql.stop()]);
    });
    const makers: readonly (readonly [string, () => Promise<IndexStore>])[] = [
      ['SQLite', sqlite],
      ...(
        [
          ['PostgreSQL', postgresPlaces(postgres)],
          ['MariaDB', mysqlPlaces(mysql)],
        ] as const
      ).map(
        ([name, places]) =>
          [
            name,
            async () => {
              const index = await (await places()).open();
              onTestFinished(() => index.close());
              return index;
            },
          ] as const,
      ),
    ];
    const pairs = makers.flatMap(([from, source]) =>
      makers
        .filter(([to]) => to !== from || from === 'SQLite')
        .map(([to, target]) => ({ from, to, source, target })),
    );

    it.each(pairs.filter(({ from }) => from === 'SQLite'))(
      'to $to, and says so where a path came meanwhile, whose node was not copied',
      async ({ source, target }) => {
        const from = await source();
        const to = await target();
        await fill(from);
        let late: Promise<unknown> = Promise.resolve();
        let pages = 0;
        const onProgress = (): void => {
          pages += 1;
          // The nodes are copied.
          if (pages === 2) late = store(from, 70);
        };
        const copied = copy(from, to, { onProgress });
        await expect(copied).rejects.toThrow(CopyIndexError);
        await expect(copied).rejects.toThrow(/cannot take all rows of paths .* empty database$/);
        await late;
      },
    );

    it.each(pairs)('from $from to $to, with all that it holds', async ({ source, target }) => {
      const from = await source();
      const to = await target();
      await fill(from);
      const report = await copy(from, to);
      expect(report).toMatchObject({ resumed: false, totals: await from.totals() });
      await expectCopied(from, to);
      await store(to, 50, { references: [1, 51] });
      await to.upkeep.putPin({
        name: 'new',
        storePath: pathOf(50).storePath,
        hash: hashOf(50),
        createdAt: NOW,
        expiresAt: null,
      });
      expect((await to.upkeep.recountTotals({ repair: false })).actual).toEqual(await to.totals());
    });
  },
);

describe('the copy of an index', () => {
  it('goes on where it was interrupted, and is evicted from only when it is complete', async () => {
    const from = await sqlite();
    const to = await sqlite();
    for (let number = 1; number <= 620; number += 1) await store(from, number, { references: [number + 1] });
    const stop = new AbortController();
    let pages = 0;
    const onProgress = (): void => {
      pages += 1;
      // Both pages of the nodes, one of the NARs.
      if (pages === 3) stop.abort(new Error('enough'));
    };
    await expect(copy(from, to, { signal: stop.signal, onProgress })).rejects.toThrow('enough');
    expect(await to.upkeep.getMark(REBUILDING_MARK)).not.toBeNull();
    const report = await copy(from, to);
    expect(report).toMatchObject({ resumed: true, copied: { nars: 120, paths: 620, referenceEdges: 620 } });
    await expectCopied(from, to);
  });

  it('counts what there is to be copied, and changes nothing', async () => {
    const from = await sqlite();
    const to = await sqlite();
    await fill(from);
    expect((await copy(from, to, { dryRun: true })).copied).toMatchObject({ pins: 2, bans: 1, meta: 1 });
    expect(await rowsOf(to)).toEqual(await rowsOf(await sqlite()));
  });

  it('says so where the source was written to meanwhile', async () => {
    const from = await sqlite();
    const to = await sqlite();
    await fill(from);
    let late: Promise<unknown> = Promise.resolve();
    let pages = 0;
    const onProgress = (): void => {
      pages += 1;
      // The nodes and the NARs are copied.
      if (pages === 2) late = from.touch([{ key: keyOf(1), at: NOW + 99 * HOUR }]);
    };
    const copied = copy(from, to, { onProgress });
    await expect(copied).rejects.toThrow(CopyIndexError);
    await expect(copied).rejects.toThrow(/is not equal to .* in nars, at \[1\]/);
    await late;
    expect(await to.upkeep.getMark(REBUILDING_MARK)).not.toBeNull();
  });

  it('refuses a target with rows, that of another source, and a source that is not complete', async () => {
    const [from, other, full, begun] = [await sqlite(), await sqlite(), await sqlite(), await sqlite()];
    await fill(from);
    await store(full, 1);
    await expect(copy(from, full)).rejects.toThrow('is not empty');
    const stop = AbortSignal.abort(new Error('enough'));
    await expect(copy(from, begun, { signal: stop })).rejects.toThrow('enough');
    await begun.upkeep.setMark(
      COPY_MARK,
      JSON.stringify({ from: from.description, table: 'nars', after: [1] }),
    );
    await expect(copy(other, begun)).rejects.toThrow('is an unfinished copy of');
    await expect(copy(begun, other)).rejects.toThrow('is not complete itself');
  });

  // Each kill is a process that begins anew.
  it('is completed after a kill at any of its steps', { timeout: 120_000 }, async () => {
    const path = newFile();
    const from = await sqlite(path);
    await fill(from);
    const steps = ['copy:begin', 'copy:rows', 'copy:mark', 'copy:settle', 'copy:totals', 'copy:complete'];
    for (const [step, occurrence] of [
      ...[...steps, 'copy:open', 'copy:end'].map((step) => [step, 1] as const),
      ...(['copy:rows', 'copy:mark'] as const).map((step) => [step, 4] as const),
    ]) {
      const target = newFile();
      const end = await runScript(CRASHING, [path, target, step, String(occurrence)]);
      expect(end, `${step}: ${end.stderr}`).toMatchObject({ signal: 'SIGKILL' });
      const to = await sqlite(target);
      await copy(from, to);
      await expectCopied(from, to);
    }
  });
});
