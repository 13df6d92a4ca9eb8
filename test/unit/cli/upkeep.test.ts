import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatSecretKey, generateSecretKey } from '../../../src/nix/signing-key.ts';
import { hashToken } from '../../../src/server/admin.ts';
import { baseName, pushed } from '../../support/evictable.ts';
import type { SignedPath } from '../../support/signed-path.ts';
import { startTestCache } from '../../support/test-cache.ts';
import { type CliResult, runCli } from './run-cli.ts';

let directory: string;
let below: SignedPath;
let root: SignedPath;

/** Two paths, the second referring to the first. */
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'snowcap-upkeep-cli-'));
  const key = await generateSecretKey('cli-1');
  await writeFile(join(directory, 'key'), formatSecretKey(key), { mode: 0o600 });
  const database = join(directory, 'index.db');
  const snowcap = await startTestCache({ directory, database, storage: 'file', secretKeys: [key] });
  await snowcap.cache.startUp();
  below = await pushed(snowcap, { name: 'below', seed: 1 });
  root = await pushed(snowcap, { name: 'root', seed: 2, references: [baseName(below)] });
  await snowcap.close();
});

afterAll(() => rm(directory, { recursive: true }));

const run = (...words: string[]): Promise<CliResult> =>
  runCli(words, {
    directory,
    environment: {
      SNOWCAP_STORAGE: `file:${join(directory, 'storage')}`,
      SNOWCAP_DATABASE: `sqlite:${join(directory, 'index.db')}`,
      SNOWCAP_SPOOL_DIR: join(directory, 'spool'),
      SNOWCAP_SECRET_KEY_FILE: join(directory, 'key'),
      SNOWCAP_UPSTREAMS: '',
      SNOWCAP_TRUSTED_PUBLIC_KEYS: '',
    },
  });

describe('snowcap pin, unpin and pins', () => {
  it('pin a closure, list it and end it', async () => {
    const made = await run('pin', 'mine', root.storePath, '--expires', '30d', '--fetch');
    expect(made).toMatchObject({ code: 0, stderr: '' });
    expect(made.stdout).toContain('pinned 2 paths, 2.2 KiB stored\n0 NARs downloaded\n');
    const listed = await run('pins');
    expect(listed.stdout).toMatch(/^NAME +PATHS +STORED +MISSING +EXPIRES +ROOT$/m);
    expect(listed.stdout).toMatch(
      new RegExp(`^mine +2 +2\\.2 KiB +0 +\\d{4}-[\\dT:-]+Z +${root.storePath}$`, 'm'),
    );
    expect(JSON.parse((await run('pins', '--json')).stdout)).toMatchObject([{ name: 'mine', paths: 2 }]);
    expect(await run('unpin', 'mine')).toMatchObject({ code: 0, stdout: 'unpinned mine\n' });
    const again = await run('unpin', 'mine');
    expect(again).toMatchObject({ code: 1, stderr: 'snowcap: There is no pin "mine"\n' });
  });

  it('say what cannot be pinned', async () => {
    expect((await run('pin', '-x', root.storePath)).code).toBe(2);
    expect((await run('pin', 'x', root.storePath, '--expires', 'soon')).code).toBe(2);
    const { code, stderr } = await run('pin', 'x', `/nix/store/${'0'.repeat(32)}-nothing`);
    expect([code, stderr]).toEqual([1, expect.stringContaining('is not in this cache nor in its upstreams')]);
  });
});

describe('snowcap delete, unban and bans', () => {
  it('keep what others refer to, ban, and let come back', async () => {
    const kept = await run('delete', below.storePath);
    expect([kept.code, kept.stderr]).toEqual([1, expect.stringContaining('--force removes it')]);
    expect((await run('delete', 'not-a-path')).code).toBe(2);
    const banned = await run('delete', root.hash, '--ban', '--reason', 'no licence');
    expect(banned).toMatchObject({ code: 0, stderr: '' });
    expect(banned.stdout).toBe(`removed ${root.storePath}, 1.1 KiB freed\nbanned ${root.hash}\n`);
    expect((await run('bans')).stdout).toMatch(new RegExp(`^${root.storePath} +\\d.*Z +no licence$`, 'm'));
    expect((await run('unban', root.hash)).stdout).toBe('1 path may come back\n');
    expect((await run('unban', root.hash)).code).toBe(1);
    expect((await run('delete', root.hash)).stderr).toContain('is not known here');
  });
});

describe('snowcap token generate', () => {
  it('prints a new token and its hash', async () => {
    const { stdout } = await run('token', 'generate');
    const [, token = '', hash = ''] = /^token {2}(\S+)\nhash {3}(\S+)\n$/.exec(stdout) ?? [];
    expect(token.length).toBeGreaterThan(40);
    expect(await hashToken(token)).toBe(hash);
    expect((await run('token', 'generate')).stdout).not.toBe(stdout);
  });
});

describe('snowcap verify', () => {
  it('ends with 0 where nothing is wrong, 1 where something is, 3 where it cannot tell', async () => {
    const clean = await run('verify', '--content', '--grace', '0');
    expect(clean).toMatchObject({ code: 0, stderr: '' });
    expect(clean.stdout).toMatch(/checked, 1 read \(1\.1 KiB\); nothing found\n$/);
    await rm(join(directory, 'storage', below.url));
    const found = await run('verify', '--json', 'report.json');
    expect(found.stdout).toContain(`NAR missing  ${below.url}`);
    expect([found.code, found.stderr]).toEqual([1, 'snowcap: 1 fault; --repair puts right what can be\n']);
    const report: unknown = JSON.parse(await readFile(join(directory, 'report.json'), 'utf8'));
    expect(report).toMatchObject({ finished: true, remaining: 1, found: { 'NAR missing': 1 } });
    expect(JSON.parse((await run('verify', '--json', '-')).stdout)).toEqual(report);
    expect((await run('verify', '--repair', '--dry-run')).code).toBe(1);
    expect((await run('verify', '--repair')).stdout).toContain('repaired  NAR missing');
    expect((await run('verify')).code).toBe(0);
    expect((await run('verify', '--grace', 'long')).code).toBe(2);
    const lost = await run('verify', '--storage', `file:${join(directory, 'key', 'nowhere')}`);
    expect([lost.code, lost.stderr]).toEqual([
      3,
      expect.stringContaining('could not be verified to the end'),
    ]);
  });
});

describe('snowcap reindex', () => {
  it('rebuilds a lost index, and ends with 1 where narinfos are left out', async () => {
    await rm(join(directory, 'index.db'));
    await writeFile(join(directory, 'storage', `${'0'.repeat(32)}.narinfo`), 'nothing');
    const { code, stdout, stderr } = await run('reindex');
    expect(stdout).toContain(`${'0'.repeat(32)}  0`);
    expect(stdout).toMatch(/\d narinfos? read, \d adopted/);
    expect([code, stderr]).toEqual([1, expect.stringContaining('could not be taken into the index')]);
  });
});
