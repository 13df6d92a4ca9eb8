import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { brotliCompressSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createSha256 } from '../../../src/nar/sha256.ts';
import { fingerprint, formatNarInfo } from '../../../src/nix/nar-info.ts';
import type { NarInfo } from '../../../src/nix/nar-info.ts';
import { createSigner, formatPublicKey, generateSecretKey } from '../../../src/nix/signing-key.ts';
import { startFaultServer } from '../../support/fault-server.ts';
import type { FaultServer } from '../../support/fault-server.ts';
import { checkedCommand } from '../../support/nix-command.ts';
import { requireTool } from '../../support/require.ts';
import { narOf } from './nar-fixture.ts';
import { runCli } from './run-cli.ts';
import type { CliResult, RunOptions } from './run-cli.ts';

const NAR = narOf({
  entries: {
    bin: { entries: { tool: { executable: '#!/bin/sh\n' } } },
    empty: '',
    grüße: 'hello\n',
    link: { link: 'bin/tool' },
    odd: { entries: { 'a\u001b[31mb': 'x' } },
  },
});
const STORE_PATH = '/nix/store/00000000000000000000000000000000-x';

const directory = mkdtempSync(join(tmpdir(), 'snowcap-cli-nar-'));
const run = (words: readonly string[], options: Omit<RunOptions, 'directory'> = {}): Promise<CliResult> =>
  runCli(['nar', ...words], { directory, ...options });

function hashOf(bytes: Uint8Array): string {
  const sha256 = createSha256();
  sha256.update(bytes);
  return sha256.digest();
}

let server: FaultServer;
let trusted: string;

beforeAll(async () => {
  mkdirSync(join(directory, 'nar'));
  writeFileSync(join(directory, 'x.nar'), NAR);
  const zstd = zstdCompressSync(NAR);
  writeFileSync(join(directory, 'nar/x.nar.zst'), zstd);

  const key = await generateSecretKey('test-1');
  trusted = formatPublicKey(key.publicKey);
  const unsigned: NarInfo = {
    storePath: STORE_PATH,
    url: 'nar/x.nar.zst',
    compression: 'zstd',
    fileHash: hashOf(zstd),
    fileSize: zstd.length,
    narHash: hashOf(NAR),
    narSize: NAR.length,
    references: [],
    deriver: null,
    signatures: [],
    ca: null,
    extra: [],
  };
  const signature = await (await createSigner(key)).sign(fingerprint(unsigned));
  const signed: NarInfo = { ...unsigned, signatures: [signature] };
  writeFileSync(join(directory, 'good.narinfo'), formatNarInfo(signed));
  writeFileSync(join(directory, 'unsigned.narinfo'), formatNarInfo(unsigned));
  writeFileSync(join(directory, 'wrong.narinfo'), formatNarInfo({ ...signed, narSize: NAR.length + 8 }));
  server = await startFaultServer();
  server.static(directory);
});

afterAll(async () => {
  await server.close();
  rmSync(directory, { recursive: true });
});

describe('snowcap nar ls', () => {
  it('lists one level in the order of the NAR', async () => {
    const { code, stdout } = await run(['ls', 'x.nar']);
    expect({ code, stdout }).toEqual({ code: 0, stdout: './bin\n./empty\n./grüße\n./link\n./odd\n' });
  });

  it('lists a directory, or a file, within', async () => {
    expect((await run(['ls', 'x.nar', '/bin/'])).stdout).toBe('./tool\n');
    expect((await run(['ls', 'x.nar', 'bin/tool'])).stdout).toBe('bin/tool\n');
  });

  it('lists everything with types and sizes as nix does', async (context) => {
    requireTool(context, 'nix');
    const words = ['--experimental-features', 'nix-command', 'nar', 'ls', '-lR', 'x.nar', '/'];
    const expected = await checkedCommand('nix', words, {
      cwd: directory,
      env: { PATH: process.env['PATH'] ?? '', HOME: directory, NIX_REMOTE: `local?root=${directory}/root` },
    });
    expect((await run(['ls', '-R', '-l', 'x.nar'])).stdout).toBe(expected);
  });

  it('prints the listing of caches with --json', async () => {
    const listing = JSON.parse((await run(['ls', '--json', 'nar/x.nar.zst'])).stdout) as {
      version: number;
      root: { entries: Record<string, unknown> };
    };
    expect(listing.version).toBe(1);
    expect(listing.root.entries['link']).toEqual({ type: 'symlink', target: 'bin/tool' });
  });

  it('says what is not in it', async () => {
    const { code, stderr } = await run(['ls', 'x.nar', '/none']);
    expect({ code, stderr }).toEqual({ code: 1, stderr: 'snowcap: Cannot find "/none" in x.nar\n' });
  });
});

describe('snowcap nar cat', () => {
  it('prints a file, whatever the compression', async () => {
    expect(await run(['cat', 'nar/x.nar.zst', 'grüße'])).toEqual({ code: 0, stdout: 'hello\n', stderr: '' });
    expect(await run(['cat', 'x.nar', '/empty'])).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  it.each([
    ['/link', 'it is a symbolic link to "bin/tool"'],
    ['/bin', 'it is a directory'],
  ])('refuses %s: %s', async (path, message) => {
    const { code, stdout, stderr } = await run(['cat', 'x.nar', path]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain(message);
  });

  it('fails where the NAR is not what its narinfo says', async () => {
    const { code, stderr } = await run(['cat', 'wrong.narinfo', '/empty']);
    expect(code).toBe(1);
    expect(stderr).toContain(`NarSize is ${NAR.length}, but the narinfo says ${NAR.length + 8}`);
  });
});

describe('snowcap nar verify', () => {
  it.each([
    ['none', (bytes: Buffer) => bytes, 'by-magic'],
    ['gzip', gzipSync, 'by-magic'],
    ['zstd', zstdCompressSync, 'by-magic'],
    ['br', brotliCompressSync, 'by-name.nar.br'],
  ])('finds out that a NAR is compressed with %s', async (compression, compress, name) => {
    const encoded = compress(NAR);
    const file = `${compression}-${name}`;
    writeFileSync(join(directory, file), encoded);
    const { code, stdout } = await run(['verify', file]);
    expect(code).toBe(0);
    expect(stdout).toBe(
      `Compression: ${compression}\nFileHash: ${hashOf(encoded)}\nFileSize: ${encoded.length}\n` +
        `NarHash: ${hashOf(NAR)}\nNarSize: ${NAR.length}\nEntries: 8\n`,
    );
  });

  it('asks for the compression where nothing tells', async () => {
    writeFileSync(join(directory, 'riddle'), brotliCompressSync(NAR));
    expect((await run(['verify', 'riddle'])).stderr).toContain('name it with --compression');
    expect((await run(['verify', '--compression', 'br', 'riddle'])).code).toBe(0);
    expect((await run(['verify', '--compression', 'rar', 'riddle'])).code).toBe(2);
  });

  it('compares the hash given, in any form', async () => {
    expect((await run(['verify', 'x.nar', '--nar-hash', hashOf(NAR)])).code).toBe(0);
    expect((await run(['verify', 'x.nar', '--nar-hash', hashOf(NAR).slice(7)])).code).toBe(0);
    const other = await run(['verify', 'x.nar', '--nar-hash', hashOf(Buffer.from('x'))]);
    expect(other.code).toBe(1);
    expect(other.stderr).toContain(`x.nar is refused: NarHash is ${hashOf(NAR)}`);
    expect((await run(['verify', 'x.nar', '--nar-hash', 'nonsense'])).code).toBe(2);
  });

  it.each([8, 100, 500, NAR.length - 1])('refuses a NAR that is cut after %d bytes', async (size) => {
    writeFileSync(join(directory, 'cut.nar'), NAR.subarray(0, size));
    const { code, stdout, stderr } = await run(['verify', 'cut.nar']);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^snowcap: Cannot .*\n$/);
  });

  it('checks file, NAR and signature of a narinfo, from a file and from a URL', async () => {
    const environment = { SNOWCAP_TRUSTED_PUBLIC_KEYS: trusted };
    for (const place of ['good.narinfo', `${server.url}/good.narinfo`]) {
      const { code, stdout, stderr } = await run(['verify', place], { environment });
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(stdout).toContain(`StorePath: ${STORE_PATH}\nCompression: zstd\n`);
      expect(stdout).toContain(`Trusted: signature by ${trusted}\n`);
    }
  });

  it('refuses a narinfo without a signature that is trusted', async () => {
    const environment = { SNOWCAP_TRUSTED_PUBLIC_KEYS: trusted };
    const unsigned = await run(['verify', 'unsigned.narinfo'], { environment });
    expect(unsigned.code).toBe(1);
    expect(unsigned.stderr).toContain('no signature of the narinfo is by a trusted key (it has none)');
    const foreign = await run(['verify', 'good.narinfo']);
    expect(foreign.code).toBe(1);
    expect(foreign.stderr).toContain('(it has those of test-1)');
  });

  it('reads a NAR from a URL with credentials, and shows none of them', async () => {
    server.route(/^\/secret\//, { status: 403 });
    const url = server.url.replace('http://', 'http://user:hunter2@');
    expect((await run(['verify', `${url}/x.nar`])).code).toBe(0);
    const sent = server.requests.filter((request) => request.path === '/x.nar').at(-1);
    expect(sent?.headers.authorization).toBe(`Basic ${Buffer.from('user:hunter2').toString('base64')}`);
    const refused = await run(['verify', `${url}/secret/x.nar?token=hunter2`]);
    expect(refused.code).toBe(1);
    expect(refused.stderr).not.toContain('hunter2');
  });

  it('fails where a download is cut', async () => {
    server.route('/cut/x.nar', { body: NAR, truncateAt: 300 });
    const { code, stdout } = await run(['verify', `${server.url}/cut/x.nar`]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  });

  it.each([
    ['http://127.0.0.1:1/x.nar', /Cannot read http:\/\/127\.0\.0\.1:1\/x\.nar/],
    ['missing.nar', /Cannot read "missing\.nar".*ENOENT/],
  ])('says that %s cannot be read', async (place, message) => {
    const { code, stderr } = await run(['verify', place]);
    expect(code).toBe(1);
    expect(stderr).toMatch(message);
  });
});
