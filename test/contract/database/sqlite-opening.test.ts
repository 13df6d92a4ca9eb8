import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, open, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it, onTestFinished } from 'vitest';
import { MetadataError } from '../../../src/database/metadata-store.ts';
import { createSqliteStore } from '../../../src/database/sqlite/node.ts';
import { hashOf, keyOf, record, storedNar } from './records.ts';

const OPENING_CHILD = fileURLToPath(new URL('sqlite-opening.child.ts', import.meta.url));

async function freshDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'snowcap-index-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** The message of the error that opening gives; fails the test if it opens. */
async function refusal(path: string, busyTimeoutMs = 100): Promise<string> {
  const error: unknown = await createSqliteStore({ path, busyTimeoutMs }).then(
    (store) => store.close(),
    (error: unknown) => error,
  );
  if (!(error instanceof MetadataError)) throw new Error(`Opened, or another error: ${String(error)}`);
  expect(error.message).toContain(path);
  return error.message;
}

describe('Opening an index on SQLite', () => {
  it('makes the file and its directories, and says where it is', async () => {
    const path = join(await freshDirectory(), 'a', 'b', 'index.db');
    const store = await createSqliteStore({ path });
    onTestFinished(() => store.close());
    expect(store.description).toBe(`sqlite:${path}`);
    await record(store, 1);
    expect((await stat(path)).size).toBeGreaterThan(0);
  });

  it('takes a relative path from the working directory, and a path like a URI as a path', async () => {
    const directory = await freshDirectory();
    const before = process.cwd();
    process.chdir(directory);
    onTestFinished(() => {
      process.chdir(before);
    });
    const store = await createSqliteStore({ path: 'file:index.db?mode=memory' });
    await store.close();
    expect((await stat(join(directory, 'file:index.db?mode=memory'))).isFile()).toBe(true);
  });

  it('refuses an empty path', async () => {
    await expect(createSqliteStore({ path: '' })).rejects.toThrow('the path is empty');
  });

  it('refuses a directory', async () => {
    expect(await refusal(await freshDirectory())).toContain('it is a directory: name a file in it');
  });

  it('refuses a path below a file', async () => {
    const file = join(await freshDirectory(), 'file');
    await writeFile(file, 'x');
    expect(await refusal(join(file, 'index.db'))).toContain(`the directory "${file}" cannot be made`);
  });

  it.each([
    ['short', 'hello\n'],
    ['long', 'Not a database, but somebody needs it.\n'.repeat(1000)],
  ])('refuses a %s file that is no database, and leaves it as it was', async (_, text) => {
    const path = join(await freshDirectory(), 'notes.txt');
    await writeFile(path, text);
    expect(await refusal(path)).toContain('it is not an SQLite database: give another path');
    expect(await readFile(path, 'utf8')).toBe(text);
  });

  it('takes an empty file', async () => {
    const path = join(await freshDirectory(), 'index.db');
    await writeFile(path, '');
    const store = await createSqliteStore({ path });
    onTestFinished(() => store.close());
    expect(await store.totals()).toEqual({ presentBytes: 0, presentNars: 0 });
  });

  it('refuses the database of another program, and leaves it as it was', async () => {
    const path = join(await freshDirectory(), 'other.db');
    const other = new DatabaseSync(path);
    other.exec(`create table songs (name text); insert into songs values ('x')`);
    other.close();
    const before = await readFile(path);
    expect(await refusal(path)).toContain('it is the database of another program');
    expect((await readFile(path)).equals(before)).toBe(true);
  });

  it('refuses a schema newer than this version, and leaves it as it was', async () => {
    const path = join(await freshDirectory(), 'index.db');
    await (await createSqliteStore({ path })).close();
    const newer = new DatabaseSync(path);
    newer.exec(`insert into __drizzle_migrations (hash, created_at) values ('from-the-future', 9e15)`);
    newer.close();
    const before = await readFile(path);
    expect(await refusal(path)).toContain(
      'is unknown to this version: run the version that wrote it or a newer one',
    );
    expect((await readFile(path)).equals(before)).toBe(true);
  });

  it('refuses a database that was cut off, in words', async () => {
    const path = join(await freshDirectory(), 'index.db');
    const store = await createSqliteStore({ path });
    for (let number = 1; number <= 50; number++) await record(store, number);
    await store.close();
    await truncate(path, 4096);
    expect(await refusal(path)).toContain('it is damaged: move it away');
  });

  it('waits for a process that holds the database, then says so', async () => {
    const path = join(await freshDirectory(), 'index.db');
    await (await createSqliteStore({ path })).close();
    const holder = new DatabaseSync(path);
    onTestFinished(() => {
      holder.close();
    });
    holder.exec('begin exclusive');
    expect(await refusal(path, 50)).toContain('another process has held it locked for 50 ms');
    holder.exec('rollback');
    const store = await createSqliteStore({ path });
    await store.close();
  });

  it('refuses a file that this user may not write, and a directory too', async (context) => {
    const directory = await freshDirectory();
    await mkdir(join(directory, 'closed'));
    const path = join(directory, 'index.db');
    await (await createSqliteStore({ path })).close();
    await chmod(path, 0o444);
    await chmod(join(directory, 'closed'), 0o555);
    await chmod(directory, 0o777);
    if (process.getuid?.() === undefined) context.skip('there are no users on this system');
    // Root may write everything: a child gives that up before it opens the index.
    const run = async (file: string) =>
      (await promisify(execFile)(process.execPath, [OPENING_CHILD, file], { timeout: 20_000 })).stdout;
    expect(await run(path)).toContain('it cannot be written: let this user write the file');
    expect(await run(join(directory, 'closed', 'index.db'))).toContain('it cannot be opened: let this user');
  });
});

describe('An index on SQLite that goes wrong later', () => {
  it('fails with the name of the operation while another process holds it, and works again after that', async () => {
    const path = join(await freshDirectory(), 'index.db');
    const store = await createSqliteStore({ path, busyTimeoutMs: 60 });
    const holder = new DatabaseSync(path);
    onTestFinished(async () => {
      holder.close();
      await store.close();
    });
    await record(store, 1);
    holder.exec('begin immediate');
    let ticks = 0;
    const ticking = setInterval(() => ticks++, 5);
    await expect(record(store, 2)).rejects.toThrow(/^Index operation recordPath failed: database is locked/);
    await expect(store.markVerified(keyOf(1), 1)).rejects.toThrow(MetadataError);
    clearInterval(ticking);
    // The event loop went on while the operation waited.
    expect(ticks).toBeGreaterThan(2);
    expect(await store.getPath(hashOf(1))).not.toBeNull();
    holder.exec('rollback');
    expect((await record(store, 2)).path.hash).toBe(hashOf(2));
  });

  it('waits for another process that ends in time', async () => {
    const path = join(await freshDirectory(), 'index.db');
    const store = await createSqliteStore({ path, busyTimeoutMs: 10_000 });
    const holder = new DatabaseSync(path);
    onTestFinished(async () => {
      holder.close();
      await store.close();
    });
    holder.exec('begin immediate');
    const recorded = record(store, 1);
    setTimeout(() => {
      holder.exec('rollback');
    }, 50);
    expect((await recorded).path.hash).toBe(hashOf(1));
  });

  it('fails in every operation once damage was found, ping too, and crashes nothing', async () => {
    const path = join(await freshDirectory(), 'index.db');
    const first = await createSqliteStore({ path });
    for (let number = 1; number <= 2000; number++) await record(first, number, [number + 1]);
    await first.close();
    const store = await createSqliteStore({ path });
    onTestFinished(() => store.close());
    // Kept in memory from here on: healthy pages do not make a damaged index usable.
    await store.totals();
    const file = await open(path, 'r+');
    const { size } = await file.stat();
    // All but the first page, where the schema is and which the handle has read.
    await file.write(new Uint8Array(size - 4096).fill(0xa5), 0, size - 4096, 4096);
    await file.close();
    const operations = [
      () => store.listPaths(0, 2000),
      () => store.getPath(hashOf(1000)),
      () => store.getNar(keyOf(1000)),
      () => record(store, 3000),
      () => store.markPresent(keyOf(1), storedNar(1)),
      () => store.markAbsent(keyOf(1), 1),
      () => store.markQuarantined(keyOf(1), 'wrong'),
      () => store.touch([{ key: keyOf(1), at: 1 }]),
      () => store.references(hashOf(1)),
      () => store.closure([hashOf(1)]),
      () => store.totals(),
      () => store.ping(),
    ];
    for (const operation of operations) {
      await expect(operation()).rejects.toThrow(MetadataError);
    }
    await expect(store.ping()).rejects.toThrow(/^Index operation ping failed: /);
  });

  it('undoes what a failing operation began, and holds no lock afterwards', async () => {
    const path = join(await freshDirectory(), 'index.db');
    const store = await createSqliteStore({ path });
    const other = new DatabaseSync(path);
    onTestFinished(async () => {
      other.close();
      await store.close();
    });
    other.exec('alter table reference_edges rename to hidden');
    await expect(record(store, 1, [2])).rejects.toThrow(/recordPath/);
    other.exec('alter table hidden rename to reference_edges');
    expect(await store.getNar(keyOf(1))).toBeNull();
    expect((await record(store, 1, [2])).path.revision).toBe(1);
  });

  it('tells no values and no SQL in its errors', async () => {
    const path = join(await freshDirectory(), 'index.db');
    const store = await createSqliteStore({ path });
    onTestFinished(() => store.close());
    const other = new DatabaseSync(path);
    other.exec('drop table reference_edges; drop table paths');
    other.close();
    const error: unknown = await record(store, 4711, [4712]).catch((error: unknown) => error);
    const told = `${String(error)} ${error instanceof Error ? String(error.cause) : ''}`;
    expect(told).toContain('recordPath');
    expect(told).not.toContain(hashOf(4711));
    expect(told).not.toMatch(/insert into|select /i);
  });

  it('says which column it cannot read, and not its value', async () => {
    const path = join(await freshDirectory(), 'index.db');
    const store = await createSqliteStore({ path });
    onTestFinished(() => store.close());
    await record(store, 1);
    const other = new DatabaseSync(path);
    onTestFinished(() => {
      other.close();
    });
    for (const [table, column, value] of [
      ['paths', 'signatures', '[1]'],
      ['paths', 'signatures', '{"secret'],
      ['paths', 'extra', '[["a"]]'],
      ['paths', 'justification', 'secret'],
      ['nars', 'state', 'secret'],
      ['nars', 'verification', 'secret'],
      ['paths', 'nar_size', 'secret'],
    ] as const) {
      other.exec('begin');
      other.prepare(`update ${table} set ${column} = ?`).run(value);
      other.exec('commit');
      const error: unknown = await store.getPath(hashOf(1)).catch((error: unknown) => error);
      expect(String(error)).toBe(
        `MetadataError: Index operation getPath failed: Column ${column} has a value that this version cannot read`,
      );
      const right = {
        signatures: '[]',
        extra: '[]',
        justification: 'pushed',
        state: 'known',
        verification: 'none',
      };
      other.prepare(`update ${table} set ${column} = ?`).run(column === 'nar_size' ? 1 : right[column]);
    }
    expect(await store.getPath(hashOf(1))).not.toBeNull();
  });
});
