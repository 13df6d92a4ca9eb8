import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import packageDescription from '../../../package.json' with { type: 'json' };
import { SETTINGS } from '../../../src/config/settings.ts';
import {
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  parseSecretKey,
} from '../../../src/nix/signing-key.ts';
import { runCli } from './run-cli.ts';
import type { CliResult, RunOptions } from './run-cli.ts';

const directory = mkdtempSync(join(tmpdir(), 'snowcap-cli-'));
afterAll(() => {
  rmSync(directory, { recursive: true });
});

const run = (words: readonly string[], options: Omit<RunOptions, 'directory'> = {}): Promise<CliResult> =>
  runCli(words, { directory, ...options });

describe('snowcap', () => {
  it('prints its version', async () => {
    expect(await run(['--version'])).toEqual({
      code: 0,
      stdout: `${packageDescription.version}\n`,
      stderr: '',
    });
  });

  it('names its commands in the help', async () => {
    const { code, stdout } = await run(['--help']);
    expect(code).toBe(0);
    for (const command of ['serve', 'key', 'config', 'migrate', 'nar'])
      expect(stdout).toMatch(new RegExp(`^  ${command} `, 'm'));
  });

  it.each([
    [[], /Usage: snowcap/],
    [['srve'], /unknown command 'srve'.*did you mean serve\?/is],
    [['serve', '--listn', 'x'], /unknown option '--listn'.*did you mean --listen\?/is],
    [['serve', 'x'], /too many arguments/],
    [['key'], /Usage: snowcap key/],
    [['key', 'generate'], /missing required argument 'name'/],
    [['nar', 'verify'], /missing required argument 'source'/],
  ])('ends with code 2 and says what is wrong when called as %j', async (words, message) => {
    const { code, stdout, stderr } = await run(words);
    expect(code).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toMatch(message);
  });
});

describe('snowcap serve --help', () => {
  it('has the flag, the variable and the default of every setting', async () => {
    const { code, stdout } = await run(['serve', '--help']);
    const words = stdout.replace(/\s+/g, ' ');
    expect(code).toBe(0);
    for (const { name, flag, default: usual } of SETTINGS) {
      if (flag === null) continue;
      expect(words).toContain(` ${flag} <`);
      expect(words).toContain(`[${name}`);
      if (usual !== null) expect(words).toContain(`default: ${usual}]`);
    }
  });

  it('has no flag for what other users of the machine must not see', async () => {
    expect((await run(['serve', '--secret-key', 'x'])).code).toBe(2);
  });
});

describe('snowcap key', () => {
  it('generates a new key each time, and prints nothing else', async () => {
    const [first, second] = await Promise.all([
      run(['key', 'generate', 'a-1']),
      run(['key', 'generate', 'a-1']),
    ]);
    expect(first).toMatchObject({ code: 0, stderr: '' });
    expect((await parseSecretKey(first.stdout)).name).toBe('a-1');
    expect(first.stdout).not.toBe(second.stdout);
  });

  it('refuses a name that no key can have', async () => {
    const { code, stdout, stderr } = await run(['key', 'generate', 'a b']);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain('"a b"');
  });

  it('prints the public keys of secret keys from a pipe, a file, and the configuration', async () => {
    const keys = await Promise.all(['a-1', 'b-1'].map((name) => generateSecretKey(name)));
    const secret = keys.map((key) => formatSecretKey(key)).join('\n');
    const file = join(directory, 'keys');
    writeFileSync(file, `${secret}\n`);
    const stdout = keys.map((key) => `${formatPublicKey(key.publicKey)}\n`).join('');
    const expected = { code: 0, stdout, stderr: '' };
    expect(await run(['key', 'public'], { input: secret })).toEqual(expected);
    expect(await run(['key', 'public', '-'], { input: secret })).toEqual(expected);
    expect(await run(['key', 'public', file])).toEqual(expected);
    expect(await run(['key', 'public'], { environment: { SNOWCAP_SECRET_KEY: secret } })).toEqual(expected);
    expect(await run(['key', 'public'], { environment: { SNOWCAP_SECRET_KEY_FILE: file } })).toEqual(
      expected,
    );
  });

  it('says where a key would come from that is not there yet', async () => {
    const { code, stderr } = await run(['key', 'public']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/no secret key yet: "snowcap serve" makes "\.\/data\/secret-key"/);
  });

  it('shows nothing of what is not a key', async () => {
    const { code, stdout, stderr } = await run(['key', 'public', '-'], { input: 'hunter2' });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).not.toContain('hunter2');
  });
});

describe('snowcap config check', () => {
  it('prints every setting with its value and where that comes from, secrets masked', async () => {
    const key = formatSecretKey(await generateSecretKey('k-1'));
    const { code, stdout, stderr } = await run(['config', 'check', '--priority', '10'], {
      environment: {
        SNOWCAP_SECRET_KEY: key,
        SNOWCAP_UPSTREAMS: 'https://user:hunter2@cache.example.org',
        NIX_SSL_CERT_FILE: '/dev/null',
      },
    });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const rows = stdout
      .trimEnd()
      .split('\n')
      .map((line) => line.split(/ {2,}/));
    expect(rows).toHaveLength(SETTINGS.length);
    expect(rows).toContainEqual(['SNOWCAP_PRIORITY', '10', 'flag (--priority)']);
    expect(rows).toContainEqual(['SNOWCAP_SECRET_KEY', 'k-1:…', 'environment']);
    expect(rows).toContainEqual(['SNOWCAP_UPSTREAMS', 'https://cache.example.org', 'environment']);
    expect(rows).toContainEqual(['SNOWCAP_CA_FILE', '/dev/null', 'environment (NIX_SSL_CERT_FILE)']);
    expect(rows).toContainEqual(['SNOWCAP_LISTEN', '127.0.0.1:8501', 'default']);
  });

  it('takes a list from a flag that is given several times', async () => {
    const { stdout } = await run([
      'config',
      'check',
      '--upstreams',
      'https://a',
      '--upstreams',
      'https://b https://c',
    ]);
    expect(stdout).toMatch(/^SNOWCAP_UPSTREAMS +https:\/\/a https:\/\/b https:\/\/c +flag/m);
  });

  it('ends with code 1 and names every problem', async () => {
    const { code, stdout, stderr } = await run(['config', 'check', '--verify', 'maybe'], {
      environment: { SNOWCAP_PRIORITY: 'high', SNOWCAP_LISTN: 'x' },
    });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toBe(
      `snowcap: The configuration has 3 problems:
  SNOWCAP_LISTN: there is no such setting: did you mean SNOWCAP_LISTEN?
  SNOWCAP_PRIORITY: expected a whole number from 0 to 1000000, given "high"
  --verify: expected "nar" or "file", given "maybe"
`,
    );
  });

  it('names files that are not there', async () => {
    const { code, stderr } = await run(['config', 'check', '--netrc-file', 'nowhere/netrc']);
    expect(code).toBe(1);
    expect(stderr).toContain(
      'SNOWCAP_NETRC_FILE: expected a file that can be read (ENOENT), given "nowhere/netrc"',
    );
  });
});
