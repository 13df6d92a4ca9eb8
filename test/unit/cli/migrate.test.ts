import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createSqliteStore } from '../../../src/database/sqlite/node.ts';
import { runCli } from './run-cli.ts';

const directory = mkdtempSync(join(tmpdir(), 'snowcap-migrate-'));
afterAll(() => {
  rmSync(directory, { recursive: true });
});

const run = (...words: string[]) => runCli(['migrate', ...words], { directory });

describe('snowcap migrate', () => {
  it('makes the file of SQLite, and says what was missing', async () => {
    const file = join(directory, 'new.db');
    const missing = await run('--database', `sqlite:${file}`, '--dry-run');
    expect(missing.code).toBe(1);
    expect(missing.stderr).toMatch(/^snowcap: The index lacks (\d+) of \1 migrations?\n$/);
    expect(existsSync(file)).toBe(false);
    const made = await run('--database', `sqlite:${file}`);
    expect(made).toMatchObject({ code: 0, stderr: '' });
    expect(made.stdout).toMatch(/^The index is up to date now: (\d+) of \1 migrations? applied\n$/);
    const again = await run('--database', `sqlite:${file}`, '--dry-run');
    expect(again).toMatchObject({ code: 0, stderr: '' });
    expect(again.stdout).toMatch(/^The index is up to date: \d+ migrations?\n$/);
    await (await createSqliteStore({ path: file })).close();
  });

  it('ends with code 1 for a file that is no index', async () => {
    const file = join(directory, 'other.db');
    writeFileSync(file, 'something else, and long enough to be looked at\n'.repeat(100));
    for (const words of [[], ['--dry-run']]) {
      const { code, stdout, stderr } = await run('--database', `sqlite:${file}`, ...words);
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
      expect(stderr).toContain('not a database');
    }
  });
});
