import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatSecretKey, generateSecretKey } from '../../../src/nix/signing-key.ts';
import { pushed } from '../../support/evictable.ts';
import type { SignedPath } from '../../support/signed-path.ts';
import { startTestCache } from '../../support/test-cache.ts';
import { type CliResult, runCli } from './run-cli.ts';

let directory: string;
let path: SignedPath;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'snowcap-copy-cli-'));
  await writeFile(join(directory, 'key'), formatSecretKey(await generateSecretKey('cli-1')), { mode: 0o600 });
  const snowcap = await startTestCache({
    directory,
    database: join(directory, 'index.db'),
    storage: 'file',
  });
  path = await pushed(snowcap, { name: 'one', seed: 1 });
  await snowcap.close();
  await symlink(join(directory, 'storage'), join(directory, 'link'));
});

afterAll(() => rm(directory, { recursive: true }));

const place = (name: string): string => join(directory, name);

function copy(...words: string[]): Promise<CliResult> {
  return runCli(['migrate-storage', ...words], { directory });
}

describe('snowcap migrate-storage', () => {
  it('copies a storage, and says what comes next', async () => {
    const places = [`file:${place('storage')}`, `file:${place('other')}`];
    const dry = await copy(...places, '--dry-run', '--json');
    expect(dry).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(dry.stdout)).toMatchObject({ objects: 2, copied: 2 });
    const { stdout } = await copy(...places, '--dry-run');
    expect(stdout).toMatch(/^2 objects looked at, 2 to be copied \(.*\), 0 there already\n$/);
    expect(await readdir(directory)).not.toContain('other');
    const done = await copy(...places);
    expect(done).toMatchObject({ code: 0, stderr: '' });
    expect(done.stdout).toMatch(
      /^2 objects looked at, 2 copied \(.*\), 0 there already\nAll is in file:.*SNOWCAP_STORAGE/,
    );
    expect(await readdir(place('other/nar'))).toEqual([path.url.slice('nar/'.length)]);
  });

  it('ends with code 1, and names what could not be copied', async () => {
    await writeFile(join(place('storage'), `${'0'.repeat(32)}.narinfo`), 'no narinfo');
    const done = await copy(`file:${place('storage')}`, `file:${place('other')}`);
    expect(done.code).toBe(1);
    expect(done.stdout).toMatch(/^wrong {2}0{32}\.narinfo {2}it is no narinfo/);
    expect(done.stderr).toContain('1 object could not be copied');
  });

  it('makes nothing in the source, which may be mounted for reading alone', async () => {
    await mkdir(place('mounted/log'), { recursive: true });
    await writeFile(place('mounted/log/x.drv'), 'built');
    expect(await copy(`file:${place('mounted')}`, `file:${place('read')}`)).toMatchObject({ code: 0 });
    expect(await readdir(place('mounted'))).toEqual(['log']);
  });

  it('says so where there is nothing to be copied, as with a mistake in a prefix', async () => {
    await mkdir(place('empty'));
    const { code, stdout, stderr } = await copy(`file:${place('empty')}`, `file:${place('new')}`);
    expect({ code, stdout }).toEqual({
      code: 1,
      stdout: '0 objects looked at, 0 copied (0 B), 0 there already\n',
    });
    expect(stderr).toContain(`There is nothing in file:${place('empty')}`);
  });

  it('copies an index once, and refuses a database with rows', async () => {
    const places = [`sqlite:${place('index.db')}`, `sqlite:${place('copy.db')}`];
    const dry = await copy(...places, '--dry-run');
    expect(dry).toMatchObject({ code: 0, stderr: '' });
    expect(dry.stdout).toMatch(/^\d+ rows to be copied\n$/);
    expect(await readdir(directory)).not.toContain('copy.db');
    const done = await copy(...places);
    expect(done).toMatchObject({ code: 0, stderr: '' });
    expect(done.stdout).toMatch(/^\d+ rows copied, \d+ compared; 1 NAR \(.*\) present\nAll is in sqlite:/);
    const again = await copy(...places);
    expect(again.code).toBe(1);
    expect(again.stderr).toContain('is not empty: give an empty database');
  });

  it.each([
    ['file:x', 'sqlite:y.db', 'FROM is a storage and TO a database'],
    ['r2:BUCKET', 'file:y', 'R2 is reached from here by its S3 endpoint'],
    ['d1:DB', 'sqlite:y.db', 'D1 is reached by Workers alone'],
    ['ftp:x', 'file:y', 'FROM: expected file:PATH'],
    ['file:storage', 'file:storage', 'FROM and TO are the same'],
    ['file:storage', 'file:storage/in/it', 'storage/in/it, is a part of FROM'],
    ['file:storage', 'file:link/in/it', 'storage/in/it, is a part of FROM'],
    [
      's3://cache?endpoint=http://localhost:9',
      's3://cache/v2?endpoint=http://localhost:9',
      'is a part of FROM',
    ],
    ['s3://cache/v1', 's3://cache/v1/old', 'is a part of FROM'],
    ['sqlite:x.db', 'postgres://user:hidden@host', 'TO: expected the name of a database'],
  ])('is called wrongly with %s and %s', async (from, to, message) => {
    await writeFile(place('x.db'), '');
    const { code, stdout, stderr } = await copy(from, to);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(message);
    expect(stderr).not.toContain('hidden');
  });

  it('makes nothing where there is no source', async () => {
    for (const [from, to] of [
      ['file:none', 'file:other'],
      ['sqlite:none.db', 'sqlite:new.db'],
    ] as const) {
      const { code, stderr } = await copy(from, to);
      expect(code).toBe(1);
      expect(stderr).toContain('There is no');
    }
    expect(await readdir(directory)).not.toContain('none');
    expect(await readdir(directory)).not.toContain('new.db');
  });
});

describe('snowcap resign', () => {
  const run = (...words: string[]): Promise<CliResult> =>
    runCli(['resign', ...words], {
      directory,
      environment: {
        SNOWCAP_STORAGE: `file:${place('storage')}`,
        SNOWCAP_DATABASE: `sqlite:${place('index.db')}`,
        SNOWCAP_SPOOL_DIR: place('spool'),
        SNOWCAP_SECRET_KEY_FILE: place('key'),
        SNOWCAP_UPSTREAMS: 'http://127.0.0.1:9',
        SNOWCAP_TRUSTED_PUBLIC_KEYS: 'a:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=',
      },
    });

  it('says in a dry run what is left, does it, and finds nothing more', async () => {
    const dry = await run('--dry-run');
    expect(dry.code).toBe(1);
    expect(dry.stdout).toBe('1 path looked at, 1 to be signed anew, 1 narinfo to be written\n');
    expect(await run()).toMatchObject({
      code: 0,
      stdout: '1 path looked at, 1 signed anew, 1 narinfo written\n',
      stderr: '',
    });
    const again = await run('--dry-run', '--json');
    expect(again.code).toBe(0);
    expect(JSON.parse(again.stdout)).toMatchObject({ paths: 1, resigned: 0, narInfos: 0 });
  });

  it('drops the signatures of keys by name, but of none that signs', async () => {
    expect((await run('--drop', 'snowcap.test-1')).stdout).toMatch(/1 signed anew/);
    const { code, stderr } = await run('--drop', 'cli-1');
    expect(code).toBe(2);
    expect(stderr).toContain('it signs still; take it out of SNOWCAP_SECRET_KEY first');
  });
});
