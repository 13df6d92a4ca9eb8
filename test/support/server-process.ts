import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chown, mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

const START_LIMIT_MS = 60_000;
const STOP_LIMIT_MS = 20_000;

/** Who a server runs as: database servers refuse to run as root. Empty where the tests do not run as root. */
export type Account = { readonly uid?: number; readonly gid?: number };

/** The first of these users that the machine has, or `nobody`. */
export async function accountOf(...names: readonly string[]): Promise<Account> {
  if (process.getuid?.() !== 0) return {};
  const lines = (await readFile('/etc/passwd', 'utf8')).split('\n').map((line) => line.split(':'));
  const found = [...names, 'nobody'].map((name) => lines.find(([user]) => user === name)).find(Boolean);
  if (found === undefined) throw new Error(`None of the users ${names.join(', ')} and nobody is known`);
  return { uid: Number(found[2]), gid: Number(found[3]) };
}

/** A new directory that belongs to the account. */
export async function serverDirectory(name: string, account: Account): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), `snowcap-${name}-`));
  if (account.uid !== undefined) await chown(directory, account.uid, account.gid ?? account.uid);
  return directory;
}

/** A port of 127.0.0.1 that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('A server has no port');
  return address.port;
}

/** Runs a program to its end. @throws Error with what it printed, if it fails */
export async function runAs(account: Account, program: string, args: readonly string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(program, [...args], {
    ...account,
    cwd: '/',
    maxBuffer: 2 ** 26,
  });
  return stdout;
}

export interface ServerProcess {
  readonly pid: number;
  /** Ends it, by `signal` and at last by force, and waits until it is gone. May be called twice. */
  stop(signal?: NodeJS.Signals): Promise<void>;
}

/**
 * Starts a server that stays in the foreground, and waits until it can be used.
 *
 * @param ready resolves once it answers; asked again and again until then
 * @throws Error with what it printed, if it ends before that or does not get ready
 */
export async function startServer(
  account: Account,
  program: string,
  args: readonly string[],
  ready: () => Promise<unknown>,
): Promise<ServerProcess> {
  const child = spawn(program, [...args], { ...account, cwd: '/', stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-10_000);
    });
  }
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => {
      resolve();
    });
    child.once('error', (error) => {
      output += String(error);
      resolve();
    });
  });
  const isRunning = () => child.pid !== undefined && child.exitCode === null && child.signalCode === null;
  async function stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    if (!isRunning()) return;
    child.kill(signal);
    const forced = setTimeout(() => child.kill('SIGKILL'), STOP_LIMIT_MS);
    await ended;
    clearTimeout(forced);
  }
  const deadline = performance.now() + START_LIMIT_MS;
  for (;;) {
    try {
      await ready();
      return { pid: child.pid ?? 0, stop };
    } catch (cause) {
      if (!isRunning() || performance.now() > deadline) {
        await stop('SIGKILL');
        throw new Error(`${program} did not start: ${output}`, { cause });
      }
    }
    await sleep(50);
  }
}

/** Removes what `serverDirectory` made. */
export async function removeDirectory(directory: string): Promise<void> {
  await rm(directory, { recursive: true, force: true });
}
