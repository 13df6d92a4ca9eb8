import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient, ErrorReply } from '@redis/client';

export interface RedisServerOptions {
  readonly password?: string;
  /** Further arguments of redis-server, as `['--replicaof', '127.0.0.1 6379']`. */
  readonly arguments?: readonly string[];
}

const START_LIMIT_MS = 10_000;

/** A free port of 127.0.0.1. Somebody may take it before it is used: whoever needs it tries again. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()));
  const address = server.address();
  await new Promise<void>((resolve) => server.close(() => resolve()));
  if (address === null || typeof address === 'string') throw new Error('No port');
  return address.port;
}

/**
 * A real redis-server on a free port of 127.0.0.1, which keeps everything in memory. Ends with the test process at
 * the latest. Before: `requireTool(context, 'redis-server')`, or `skipReason('redis-server')`.
 */
export class RedisServer {
  readonly port: number;
  readonly #directory: string;
  readonly #options: RedisServerOptions;
  #child: ChildProcess | null = null;
  #gone: Promise<void> = Promise.resolve();
  #output = '';

  private constructor(port: number, directory: string, options: RedisServerOptions) {
    this.port = port;
    this.#directory = directory;
    this.#options = options;
  }

  /** @throws Error with what it printed, if it does not get ready */
  static async start(options: RedisServerOptions = {}): Promise<RedisServer> {
    const directory = await mkdtemp(join(tmpdir(), 'snowcap-redis-'));
    for (let tries = 1; ; tries += 1) {
      const server = new RedisServer(await freePort(), directory, options);
      try {
        await server.#launch();
        return server;
      } catch (error) {
        if (tries < 3 && server.#output.includes('Address already in use')) continue;
        await rm(directory, { recursive: true, force: true });
        throw error;
      }
    }
  }

  /** As a client is given it, with the password: `redis://:secret@127.0.0.1:1234/0`. */
  url(database = 0): string {
    const { password } = this.#options;
    const user = password === undefined ? '' : `:${encodeURIComponent(password)}@`;
    return `redis://${user}127.0.0.1:${this.port}/${database}`;
  }

  /** Runs one command over a connection of its own. @throws ErrorReply with what Redis said */
  async command(...command: readonly string[]): Promise<unknown> {
    const client = createClient({ url: this.url(), RESP: 2, socket: { reconnectStrategy: false } });
    client.on('error', () => undefined);
    await client.connect();
    try {
      return await client.sendCommand([...command]);
    } finally {
      client.destroy();
    }
  }

  /** It accepts connections, but answers nothing until `resume`: SIGSTOP. */
  pause(): void {
    this.#child?.kill('SIGSTOP');
  }

  /** It answers what came meanwhile. */
  resume(): void {
    this.#child?.kill('SIGCONT');
  }

  /** SIGKILL; resolves when the process is gone. What it held is gone too. */
  async kill(): Promise<void> {
    this.#child?.kill('SIGKILL');
    await this.#gone;
  }

  /** Starts again, empty, on the same port; kills it first if it runs. */
  async restart(): Promise<void> {
    await this.kill();
    await this.#launch();
  }

  /** Kills it and removes what it left. */
  async stop(): Promise<void> {
    await this.kill();
    await rm(this.#directory, { recursive: true, force: true });
  }

  async #launch(): Promise<void> {
    const { password, arguments: further = [] } = this.#options;
    this.#output = '';
    const child = spawn(
      'redis-server',
      [
        `--bind 127.0.0.1 --port ${this.port} --save  --appendonly no --daemonize no`.split(' '),
        ['--dir', this.#directory],
        password === undefined ? [] : ['--requirepass', password],
        further,
      ].flat(),
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.#output = (this.#output + text).slice(-10_000);
      });
    }
    const killed = (): void => void child.kill('SIGKILL');
    process.once('exit', killed);
    let ended = false;
    this.#gone = new Promise((resolve) => {
      const end = (): void => {
        ended = true;
        process.off('exit', killed);
        resolve();
      };
      child.once('close', end);
      child.once('error', end);
    });
    const deadline = performance.now() + START_LIMIT_MS;
    while (!(await this.#answers())) {
      if (ended || performance.now() > deadline) {
        await this.kill();
        throw new Error(`redis-server did not get ready\n${this.#output}`);
      }
      await sleep(20);
    }
  }

  async #answers(): Promise<boolean> {
    try {
      return (await this.command('PING')) === 'PONG';
    } catch (error) {
      // It is another's server that wants another password, or ours that is loading.
      if (error instanceof ErrorReply && !error.message.startsWith('LOADING')) throw error;
      return false;
    }
  }
}
