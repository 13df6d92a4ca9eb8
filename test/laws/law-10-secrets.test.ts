import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formatSecretKey, generateSecretKey } from '../../src/nix/signing-key.ts';
import { download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { publish, signedPath, upstreamPublicKey } from '../support/signed-path.ts';
import { SnowcapProcess } from '../support/snowcap-process.ts';

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));

/** Words that occur nowhere else. */
const SECRETS = {
  url: 'hunter2-in-the-url',
  user: 'ursula-in-the-url',
  netrc: 'hunter3-in-netrc',
  proxy: 'hunter4-of-the-proxy',
  redirect: 'hunter5-of-a-presigned-url',
  token: 'hunter6-of-a-nar-url',
} as const;

let directory: string;
const servers: { close(): unknown }[] = [];

async function faultServer(): Promise<FaultServer> {
  const server = await startFaultServer();
  servers.push(server);
  return server;
}

/** A proxy that wants other credentials than those it is given, and says so. */
async function refusingProxy(): Promise<number> {
  const server: Server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', (request) => {
      const given = /proxy-authorization: (.*)/i.exec(request.toString())?.[1] ?? 'nothing';
      socket.end(`HTTP/1.1 407 Not with ${given}\r\nContent-Length: 0\r\n\r\n`);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  servers.push(server);
  return (server.address() as AddressInfo).port;
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'snowcap-laws-'));
});

afterEach(async () => {
  for (const server of servers.splice(0)) server.close();
  await rm(directory, { recursive: true, force: true });
});

/** The words, as they are and as they are written in headers and URLs. */
function spellings(words: readonly string[]): readonly string[] {
  return words.flatMap((word) => [word, encodeURIComponent(word)]);
}

function expectNone(where: string, text: string, words: readonly string[]): void {
  const found = spellings(words).filter((word) => text.includes(word));
  expect({ where, found }).toEqual({ where, found: [] });
}

describe('law 10: secrets stay out', () => {
  it('of logs, answers, errors, the bucket, the index and metrics, whatever goes wrong', async () => {
    const open = await faultServer();
    const closed = await faultServer();
    const machine = await faultServer();
    const closedPort = new URL(closed.url).port;
    const proxyPort = await refusingProxy();
    const good = await signedPath({ name: 'good', size: 5_000 });
    const tokened = await signedPath({ name: 'tokened', url: () => `nar/x.nar?token=${SECRETS.token}` });
    const outside = await signedPath({ name: 'outside', url: () => `../x.nar?token=${SECRETS.token}` });
    const redirected = await signedPath({ name: 'redirected', seed: 2 });
    const lying = await signedPath({ name: 'lying', seed: 3 });
    for (const path of [good, tokened, outside, redirected]) publish(open, path);
    publish(open, lying, { flipBitAt: 300 });
    open.route('/nar/x.nar', { status: 500, body: '' });
    open.route(`/${redirected.url}`, {
      status: 302,
      headers: { Location: `http://127.0.0.1:1/x?X-Amz-Signature=${SECRETS.redirect}` },
      body: '',
    });
    closed.route(/./, { status: 401, headers: { 'WWW-Authenticate': 'Basic' }, body: '' });
    machine.route(/./, { status: 403, body: '' });
    const netrc = join(directory, 'netrc');
    await writeFile(netrc, `machine localhost login nina password ${SECRETS.netrc}\n`);
    const secretKey = formatSecretKey(await generateSecretKey('sealed-1'));

    const snowcap = await SnowcapProcess.start({
      directory,
      upstreams: [
        open.url,
        `http://${SECRETS.user}:${SECRETS.url}@127.0.0.1:${closedPort}`,
        machine.url.replace('127.0.0.1', 'localhost'),
        'http://far.example',
      ],
      trustedPublicKeys: [await upstreamPublicKey()],
      env: {
        SNOWCAP_SECRET_KEY: secretKey,
        SNOWCAP_NETRC_FILE: netrc,
        HTTP_PROXY: `http://petra:${SECRETS.proxy}@127.0.0.1:${proxyPort}`,
        NO_PROXY: '127.0.0.1,localhost',
        SNOWCAP_NAR_INFO_TTL: '0',
      },
    });
    const basic = [`${SECRETS.user}:${SECRETS.url}`, `nina:${SECRETS.netrc}`, `petra:${SECRETS.proxy}`].map(
      (pair) => Buffer.from(pair).toString('base64'),
    );
    const words = [...Object.values(SECRETS), ...basic, secretKey, secretKey.split(':')[1] ?? ''];
    try {
      const seen: string[] = [];
      const ask = async (target: string, headers: Readonly<Record<string, string>> = {}): Promise<number> => {
        const answer = await download(`${snowcap.url}${target}`, { headers });
        seen.push(target, JSON.stringify(answer.headers), answer.bytes.toString('latin1'));
        return answer.status;
      };
      expect(await ask(`/${outside.hash}.narinfo`)).not.toBe(200);
      for (const path of [good, tokened, redirected, lying]) {
        expect(await ask(`/${path.hash}.narinfo`)).toBe(200);
        const url = /^URL: (.*)$/m.exec(seen.at(-1) ?? '')?.[1] ?? '';
        expect(await ask(`/${url}`)).toBe(path === good ? 200 : 502);
        expect(await ask(`/${path.hash}.ls`, { accept: 'application/json' })).toBe(path === good ? 200 : 502);
      }
      for (let attempt = 0; attempt < 4; attempt += 1) {
        expect([404, 502]).toContain(await ask(`/${'0'.repeat(32)}.narinfo`));
      }
      await open.down();
      await ask(`/${'1'.repeat(32)}.narinfo`);
      await ask(`/nar/${'1'.repeat(52)}.nar.xz`, { range: 'bytes=5-10' });
      for (const target of ['/readyz', '/metrics', '/', '/nix-cache-info', '/pubkey', '/nothing']) {
        await ask(target);
        await ask(target, { accept: 'text/html' });
      }
      expect(closed.requests.some(({ headers }) => headers.authorization === `Basic ${basic[0]}`)).toBe(true);
      expect(machine.requests.some(({ headers }) => headers.authorization === `Basic ${basic[1]}`)).toBe(
        true,
      );
      expect(snowcap.output).toMatch(/far\.example/);
      await snowcap.stop();
      expectNone('answers', seen.join('\n'), words);
      expectNone('the log', snowcap.output, words);
      await rm(netrc);
      // The index keeps the upstream's own URL of a NAR with its query: without it the NAR could not be fetched.
      const kept = words.filter((word) => word !== SECRETS.token);
      for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
        if (!entry.isFile()) continue;
        const file = join(entry.parentPath, entry.name);
        expectNone(file, await readFile(file, 'latin1'), file.includes('index.db') ? kept : words);
      }
    } finally {
      await snowcap.dispose();
    }
  });

  it('of what a wrong configuration is answered with', async () => {
    const wrong = {
      SNOWCAP_UPSTREAMS: `ftp://u:${SECRETS.url}@a.example http://u:${SECRETS.url}@b.example:99999/ http://v:${SECRETS.url}/x@c.example#f`,
      SNOWCAP_SECRET_KEY: `name-1:${SECRETS.token} ${SECRETS.netrc}`,
      SNOWCAP_TRUSTED_PUBLIC_KEYS: formatSecretKey(await generateSecretKey('mixed-up-1')),
      HTTP_PROXY: `socks5://p:${SECRETS.proxy}@d.example`,
      HTTPS_PROXY: `http://p:${SECRETS.proxy}@:1`,
    };
    const words = [...Object.values(SECRETS), wrong.SNOWCAP_TRUSTED_PUBLIC_KEYS.split(':')[1] ?? ''];
    for (const args of [['serve'], ['config', 'check'], ['key', 'public']]) {
      const { code, output } = await run(args, wrong);
      expect({ args, code }).toEqual({ args, code: 1 });
      expect(output).toMatch(/problems:\n/);
      expectNone(args.join(' '), output, words);
    }
  });

  it('of what a right configuration is shown as', async () => {
    const secretKey = formatSecretKey(await generateSecretKey('sealed-1'));
    const { code, output } = await run(['config', 'check'], {
      SNOWCAP_UPSTREAMS: `http://u:${SECRETS.url}@a.example?priority=3`,
      SNOWCAP_SECRET_KEY: secretKey,
      HTTP_PROXY: `http://p:${SECRETS.proxy}@d.example:1`,
      SNOWCAP_DATABASE: `sqlite:${join(directory, 'index.db')}`,
    });
    expect(code).toBe(0);
    expect(output).toContain('a.example');
    expect(output).toContain('sealed-1');
    expectNone('config check', output, [...Object.values(SECRETS), secretKey.split(':')[1] ?? '']);
  });

  it('of the bucket: a generated key lies outside of it, for its owner alone', async () => {
    const snowcap = await SnowcapProcess.start({ directory });
    await snowcap.dispose();
    const file = join(directory, 'secret-key');
    const secret = (await readFile(file, 'utf8')).trim();
    expect(secret).toMatch(/^snowcap\.test-1:/);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expectNone('the log', snowcap.output, [secret.split(':')[1] ?? '']);
    for (const entry of await readdir(snowcap.storage, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const text = await readFile(join(entry.parentPath, entry.name), 'latin1');
      expectNone(entry.name, text, [secret.split(':')[1] ?? '']);
    }
  });
});

function run(
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
): Promise<{ readonly code: number; readonly output: string }> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [MAIN, ...args],
      { cwd: directory, env: { PATH: process.env['PATH'] ?? '', ...environment }, timeout: 30_000 },
      (_, stdout, stderr) => resolve({ code: child.exitCode ?? -1, output: stdout + stderr }),
    );
    child.stdin?.end();
  });
}
