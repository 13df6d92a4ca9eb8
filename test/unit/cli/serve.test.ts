import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { startFaultServer } from '../../support/fault-server.ts';
import { MAIN, runCli } from './run-cli.ts';

const root = mkdtempSync(join(tmpdir(), 'snowcap-cli-serve-'));
const children: ChildProcess[] = [];

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});
afterAll(() => {
  rmSync(root, { recursive: true });
});

interface Serving {
  readonly child: ChildProcess;
  /** All that was printed so far. */
  output(): string;
  /** Resolves with the match once the output has it. */
  until(pattern: RegExp): Promise<RegExpExecArray>;
  /** Resolves with the exit code. */
  ended(): Promise<number | null>;
}

function serve(environment: Readonly<Record<string, string>>): Serving {
  const child = spawn(process.execPath, [MAIN, 'serve'], {
    cwd: mkdtempSync(join(root, 'run-')),
    env: {
      PATH: process.env['PATH'],
      SNOWCAP_LISTEN: '127.0.0.1:0',
      SNOWCAP_HOSTNAME: 'test',
      ...environment,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.push(child);
  const closed = once(child, 'close');
  let output = '';
  const take = (chunk: Buffer): void => {
    output += chunk.toString('utf8');
  };
  child.stdout.on('data', take);
  child.stderr.on('data', take);
  return {
    child,
    output: () => output,
    until: async (pattern) => {
      await expect.poll(() => output, { timeout: 15_000 }).toMatch(pattern);
      return pattern.exec(output) ?? expect.unreachable();
    },
    ended: async () => {
      await closed;
      return child.exitCode;
    },
  };
}

const LISTENING = /"url":"(http:[^"]+)".*"publicKeys":\["(test-1:[^"]+)"\].*"msg":"listening"/;

describe('snowcap serve', () => {
  it('says in its log where it listens and with which key it signs, answers, and ends cleanly on SIGTERM', async () => {
    const serving = serve({ SNOWCAP_UPSTREAMS: '' });
    const [, url = '', publicKey] = await serving.until(LISTENING);
    expect(await (await fetch(`${url}/nix-cache-info`)).text()).toContain('StoreDir: /nix/store');
    expect((await (await fetch(`${url}/pubkey`)).text()).trim()).toBe(publicKey);
    serving.child.kill('SIGTERM');
    expect(await serving.ended()).toBe(0);
    expect(serving.output()).toMatch(
      /"signal":"SIGTERM","msg":"shutting down"\}\n(.*\n)*.*"msg":"stopped"\}\n$/,
    );
  });

  it('shows people what to put into nix.conf', async () => {
    const serving = serve({ SNOWCAP_UPSTREAMS: '', SNOWCAP_LOG_FORMAT: 'pretty' });
    const [, url = ''] = await serving.until(/is listening on (http:\S+)/);
    await serving.until(
      new RegExp(`extra-substituters = ${url}\n +extra-trusted-public-keys = test-1:\\S+=\n`),
    );
    serving.child.kill('SIGINT');
    expect(await serving.ended()).toBe(0);
  });

  it('warns of upstreams whose paths need no signature', async () => {
    const serving = serve({ SNOWCAP_UPSTREAMS: 'http://user:hunter2@127.0.0.1:1/x?unsigned=allow' });
    await serving.until(LISTENING);
    expect(serving.output()).toMatch(
      /"level":"warn".*"upstream":"http:\/\/127\.0\.0\.1:1\/x".*without a signature/,
    );
    expect(serving.output()).not.toContain('hunter2');
  });

  it('does not start, and leaves nothing behind, with a wrong configuration', async () => {
    const directory = mkdtempSync(join(root, 'wrong-'));
    const { code, stdout, stderr } = await runCli(['serve', '--verify', 'no'], {
      directory,
      environment: { SNOWCAP_LISTEN: 'x' },
    });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/2 problems:\n {2}SNOWCAP_LISTEN: .*\n {2}--verify: /);
    expect(existsSync(join(directory, 'data'))).toBe(false);
  });

  it('says so where its address is taken', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    const serving = serve({ SNOWCAP_LISTEN: `127.0.0.1:${port}`, SNOWCAP_UPSTREAMS: '' });
    expect(await serving.ended()).toBe(1);
    expect(serving.output()).toMatch(new RegExp(`snowcap: Cannot listen on 127.0.0.1:${port}: .*EADDRINUSE`));
    other.close();
  });

  it('waits for requests under way at the first signal, and ends at once at the second', async () => {
    const upstream = await startFaultServer({ fallback: { stallAt: 'headers' } });
    const serving = serve({ SNOWCAP_UPSTREAMS: upstream.url, SNOWCAP_UPSTREAM_HEADERS_TIMEOUT: '60' });
    const [, url = ''] = await serving.until(LISTENING);
    const answer = fetch(`${url}/${'0'.repeat(32)}.narinfo`).catch((error: unknown) => error);
    await expect
      .poll(() => upstream.requests.some(({ path }) => path.endsWith('.narinfo')), { timeout: 5000 })
      .toBe(true);
    serving.child.kill('SIGTERM');
    // npm passes the signal on that the terminal has sent already: that one does not count.
    serving.child.kill('SIGTERM');
    await serving.until(/shutting down/);
    await pause(1200);
    expect(serving.child.exitCode).toBeNull();
    serving.child.kill('SIGTERM');
    expect(await serving.ended()).toBe(128 + 15);
    expect(await answer).toBeInstanceOf(Error);
    await upstream.close();
  });
});
