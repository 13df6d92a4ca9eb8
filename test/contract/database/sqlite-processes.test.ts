import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { readMigrations } from '../../../src/database/sqlite/migrate.ts';
import { createSqliteStore } from '../../../src/database/sqlite/node.ts';
import { hashOf } from './records.ts';

const CHILD = fileURLToPath(new URL('sqlite-processes.child.ts', import.meta.url));
const MIGRATIONS = fileURLToPath(new URL('../../../drizzle/sqlite', import.meta.url));

async function freshIndex(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'snowcap-index-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return join(directory, 'index.db');
}

interface Child {
  readonly process: ChildProcess;
  readonly lines: string[];
  /** Resolves with the exit code, or the signal. */
  readonly ended: Promise<number | string>;
  /** Lets the child go past its next wait for a line. */
  go(): void;
  waitFor(line: string): Promise<void>;
}

function start(...args: readonly string[]): Child {
  const child = spawn(process.execPath, [CHILD, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines: string[] = [];
  const output = createInterface({ input: child.stdout });
  output.on('line', (line) => lines.push(line));
  const ended = Promise.all([once(child, 'exit'), once(output, 'close')]).then(
    () => child.exitCode ?? child.signalCode ?? 'unknown',
  );
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  return {
    process: child,
    lines,
    ended,
    go: () => void child.stdin.write('go\n'),
    async waitFor(line) {
      while (!lines.includes(line)) {
        if (child.exitCode !== null) throw new Error(`The child ended before it said ${line}`);
        await once(output, 'line');
      }
    },
  };
}

/** What is in the file is whole: SQLite's own check, and the counters against a full sum. */
function expectConsistent(path: string): void {
  const database = new DatabaseSync(path);
  try {
    expect(database.prepare('pragma integrity_check').all()).toEqual([{ integrity_check: 'ok' }]);
    expect(database.prepare('pragma foreign_key_check').all()).toEqual([]);
    const counted = database.prepare(
      'select sum(present_bytes) as bytes, sum(present_nars) as nars from size_counters',
    );
    const summed = database.prepare(
      `select coalesce(sum(file_size), 0) as bytes, count(*) as nars from nars where state in ('present', 'evicting')`,
    );
    expect(counted.get()).toEqual(summed.get());
    const perShard = database.prepare(
      `select c.shard from size_counters c where present_nars <>
         (select count(*) from nars where id % 16 = c.shard and state in ('present', 'evicting'))`,
    );
    expect(perShard.all()).toEqual([]);
    // Each path is recorded with all of its edges, or not at all.
    const edges = database.prepare(
      `select p.id from paths p where
         (select count(*) from reference_edges e where e.referrer = p.node_id) <>
         length(p."references") - length(replace(p."references", ' ', '')) + 1`,
    );
    expect(edges.all()).toEqual([]);
  } finally {
    database.close();
  }
}

describe('Several processes on one index', () => {
  it('may all make it at the same instant', async () => {
    for (let round = 0; round < 3; round++) {
      const path = await freshIndex();
      const children = [1, 2, 3].map(() => start('open', path));
      await Promise.all(children.map((child) => child.waitFor('ready')));
      for (const child of children) child.go();
      expect(await Promise.all(children.map((child) => child.ended))).toEqual([0, 0, 0]);
      for (const child of children) expect(child.lines).toContain('opened');
      const database = new DatabaseSync(path);
      expect(database.prepare('select count(*) as shards from size_counters').get()).toEqual({ shards: 16 });
      expect(database.prepare('select count(*) as applied from __drizzle_migrations').get()).toEqual({
        applied: readMigrations(MIGRATIONS).length,
      });
      database.close();
    }
  });

  it('agree on the first record of every path, and count each NAR once', async () => {
    const path = await freshIndex();
    await (await createSqliteStore({ path })).close();
    const children = ['1', '2', '3'].map((writer) => start('race', path, writer));
    await Promise.all(children.map((child) => child.waitFor('ready')));
    for (const child of children) child.go();
    expect(await Promise.all(children.map((child) => child.ended))).toEqual([0, 0, 0]);
    const answers = children.map((child) => child.lines.filter((line) => line.startsWith('{')));
    expect(answers[0]).toHaveLength(200);
    expect(answers[1]).toEqual(answers[0]);
    expect(answers[2]).toEqual(answers[0]);
    expectConsistent(path);
  });

  it('lose nothing that was answered, and leave nothing half done, when one is killed while it writes', async () => {
    const path = await freshIndex();
    let answered = 0;
    for (let round = 0; round < 4; round++) {
      const child = start('write', path, String(round));
      await child.waitFor('ready');
      child.go();
      await child.waitFor(`done ${round * 10_000 + 20 + round * 37}`);
      child.process.kill('SIGKILL');
      expect(await child.ended).toBe('SIGKILL');
      expectConsistent(path);
      const store = await createSqliteStore({ path });
      const done = child.lines.filter((line) => line.startsWith('done '));
      for (const line of done) {
        const known = await store.getPath(hashOf(Number(line.slice('done '.length))));
        expect(known?.nar.state).toBe('present');
      }
      answered += done.length;
      await store.close();
    }
    expect(answered).toBeGreaterThan(4 * 20);
  });
});
