import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatSecretKey, generateSecretKey } from '../../../src/nix/signing-key.ts';
import { pushed } from '../../support/evictable.ts';
import { shiftedClock } from '../../support/replaced.ts';
import type { SignedPath } from '../../support/signed-path.ts';
import { startTestCache } from '../../support/test-cache.ts';
import { type CliResult, runCli } from './run-cli.ts';

let directory: string;
let given: SignedPath;
let own: SignedPath;
let pinned: SignedPath;

/** Three bodies of a hundred thousand bytes, from two hours ago. */
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'snowcap-evict-cli-'));
  await writeFile(join(directory, 'key'), formatSecretKey(await generateSecretKey('cli-1')), { mode: 0o600 });
  const clock = shiftedClock();
  clock.advance(-2 * 60 * 60 * 1000);
  const database = join(directory, 'index.db');
  const snowcap = await startTestCache({ directory, database, storage: 'file', clock });
  given = await pushed(snowcap, { name: 'given', seed: 1, size: 100_000 });
  own = await pushed(snowcap, { name: 'own', seed: 2, size: 100_000 });
  pinned = await pushed(snowcap, { name: 'pinned', seed: 3, size: 100_000 });
  const { upkeep } = snowcap.services;
  const source = { upstream: 'http://127.0.0.1:9', url: given.url };
  for (const { url } of [given, pinned]) await upkeep.markObtainable(url, source);
  const { hash, storePath } = pinned;
  await upkeep.putPin({ name: 'kept', hash, storePath, createdAt: clock.now(), expiresAt: null });
  await snowcap.close();
});

afterAll(() => rm(directory, { recursive: true }));

const run = (...words: string[]): Promise<CliResult> =>
  runCli(['evict', ...words], {
    directory,
    environment: {
      SNOWCAP_STORAGE: `file:${join(directory, 'storage')}`,
      SNOWCAP_DATABASE: `sqlite:${join(directory, 'index.db')}`,
      SNOWCAP_SPOOL_DIR: join(directory, 'spool'),
      SNOWCAP_SECRET_KEY_FILE: join(directory, 'key'),
      SNOWCAP_UPSTREAMS: 'http://127.0.0.1:9',
      SNOWCAP_TRUSTED_PUBLIC_KEYS: 'a:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=',
    },
  });

describe('snowcap evict', () => {
  it('says in a dry run what would go and why, and ends with 1 where that is not enough', async () => {
    const { code, stdout, stderr } = await run('--dry-run', '--max-size', '150000');
    expect(stdout).toMatch(/^SIZE +LAST ACCESS +ACCESSES +WHY +NAR +PATHS$/m);
    expect(stdout).toMatch(
      new RegExp(
        `^97\\.8 KiB  \\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d  1 +would go: an upstream has it +${given.url}  ${given.storePath}$`,
        'm',
      ),
    );
    expect(stdout).toMatch(new RegExp(`stays: it is pinned +${pinned.url}  ${pinned.storePath}$`, 'm'));
    expect(stdout).not.toContain(own.url);
    expect(stdout).toMatch(
      /^293\.3 KiB of 146\.5 KiB .*: 1 body would go \(97\.8 KiB\), 195\.5 KiB would be left; nothing more may go$/m,
    );
    expect(stderr).toBe(
      'snowcap: 49.0 KiB are above the limit: nothing more may go (97.8 KiB pinned, 97.8 KiB pushed, and to be kept)\n',
    );
    expect(code).toBe(1);
  });

  it('gives the report and the bodies as JSON', async () => {
    const { code, stdout } = await run(
      '--dry-run',
      '--json',
      '--max-size',
      '150000',
      '--evict-pushed',
      'always',
    );
    const report: unknown = JSON.parse(stdout);
    expect(report).toMatchObject({
      outcome: 'reached',
      dryRun: true,
      limit: 150_000,
      freed: { obtainable: { nars: 1 }, pushed: { nars: 1 } },
      bodies: [
        { key: given.url, verdict: 'goes', pushed: false, paths: [given.storePath] },
        { key: pinned.url, verdict: 'pinned' },
        { key: own.url, verdict: 'goes', pushed: true, accesses: 1 },
      ],
    });
    expect(code).toBe(0);
  });

  it('evicts, and has nothing to do the next time', async () => {
    const { code, stdout, stderr } = await run('--max-size', '250000', '--max-time', '60');
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(
      /1 body went \(97\.8 KiB\), 195\.5 KiB are left; the low-water mark is reached\n$/,
    );
    const again = await run('--max-size', '250000');
    expect(again).toMatchObject({ code: 0, stderr: '' });
    expect(again.stdout).toMatch(/^195\.5 KiB of .* 0 bodies went \(0 B\), .*; within the limit\n$/);
  });

  it('refuses a time that is none', async () => {
    expect(await run('--max-time', 'soon')).toMatchObject({ code: 2, stdout: '' });
  });
});
