import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const REPOSITORY: string = fileURLToPath(new URL('../../', import.meta.url));
const START_LIMIT_MS = 20_000;
const STOP_LIMIT_MS = 45_000;

export interface SnowcapOptions {
  /** Base URLs of the upstreams, with `?priority=N` or `?unsigned=allow` as configured. */
  readonly upstreams?: readonly string[];
  readonly trustedPublicKeys?: readonly string[];
  /** Further settings, `SNOWCAP_…`; they win. */
  readonly env?: Readonly<Record<string, string>>;
  /** Where storage and index are; left out: a new temporary directory, which `dispose` removes. */
  readonly directory?: string;
}

/** A line that the process logged. */
export interface LogLine {
  readonly level?: string | number;
  readonly msg?: string;
  readonly [field: string]: unknown;
}

export interface ExitStatus {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/**
 * The real program, started as a user does it: `snowcap serve` in a process of its own, configured by its
 * environment, on an ephemeral port of 127.0.0.1.
 */
export class SnowcapProcess {
  /** Storage, index and key live below it. */
  readonly directory: string;
  /** The body store; a plain cache directory. */
  readonly storage: string;
  #options: SnowcapOptions;
  #child: ChildProcess | null = null;
  #exit: Promise<ExitStatus> = Promise.resolve({ code: 0, signal: null });
  #url = '';
  #output = '';
  #ending = false;
  #crash: ExitStatus | null = null;
  readonly #logs: LogLine[] = [];

  private constructor(directory: string, options: SnowcapOptions) {
    this.directory = directory;
    this.storage = join(directory, 'storage');
    this.#options = options;
  }

  /** @throws Error with what it printed, if it does not get ready */
  static async start(options: SnowcapOptions = {}): Promise<SnowcapProcess> {
    const directory = options.directory ?? (await mkdtemp(join(tmpdir(), 'snowcap-')));
    const snowcap = new SnowcapProcess(directory, options);
    try {
      await snowcap.#launch('127.0.0.1:0');
    } catch (error) {
      if (options.directory === undefined) await rm(directory, { recursive: true, force: true });
      throw error;
    }
    return snowcap;
  }

  /** As `http://127.0.0.1:1234`, without a final slash. */
  get url(): string {
    return this.#url;
  }

  get pid(): number {
    const pid = this.#child?.pid;
    if (pid === undefined) throw new Error('Snowcap is not running');
    return pid;
  }

  /** Everything that was logged as JSON, over all starts. */
  get logs(): readonly LogLine[] {
    return this.#logs;
  }

  /** Standard output and error as they came, over all starts. */
  get output(): string {
    return this.#output;
  }

  /** SIGTERM; resolves when the process is gone. @throws Error if it does not go; it is killed then */
  async stop(): Promise<ExitStatus> {
    this.#ending = true;
    this.#child?.kill('SIGTERM');
    const status = await Promise.race([this.#exit, sleep(STOP_LIMIT_MS, null, { ref: false })]);
    if (status !== null) return status;
    await this.kill();
    throw new Error(`Snowcap did not stop within ${STOP_LIMIT_MS} ms\n${this.#tail()}`);
  }

  /** SIGKILL; resolves when the process is gone. */
  async kill(): Promise<void> {
    this.#ending = true;
    this.#child?.kill('SIGKILL');
    await this.#exit;
  }

  /** Starts again on the same port and the same directory, after `stop` if it still runs. */
  async restart(changes: Omit<SnowcapOptions, 'directory'> = {}): Promise<void> {
    if (this.#child !== null) await this.stop();
    this.#options = { ...this.#options, ...changes };
    await this.#launch(new URL(this.#url).host);
  }

  /**
   * Stops it, and removes its directory if that was a temporary one.
   *
   * @throws Error if it ended by itself, without `stop` or `kill`
   */
  async dispose(): Promise<void> {
    try {
      await this.stop();
    } finally {
      if (this.#options.directory === undefined) await rm(this.directory, { recursive: true, force: true });
    }
    if (this.#crash !== null) {
      const { code, signal } = this.#crash;
      throw new Error(`Snowcap ended by itself (code ${code}, signal ${signal})\n${this.#tail()}`);
    }
  }

  /** Fetches a path of the server, as `/nix-cache-info`. */
  get(path: string, init?: RequestInit): Promise<Response> {
    return fetch(`${this.#url}${path}`, init);
  }

  /** The key that it signs with, in Nix's format. */
  async publicKey(): Promise<string> {
    const response = await this.get('/pubkey');
    if (!response.ok) throw new Error(`/pubkey answered ${response.status}`);
    return (await response.text()).trim();
  }

  /** Bytes of memory that the process has now, and the most it ever had. */
  async rss(): Promise<{ readonly now: number; readonly peak: number }> {
    const status = await readFile(`/proc/${this.pid}/status`, 'utf8');
    const bytes = (field: string): number =>
      Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? Number.NaN) * 1024;
    return { now: bytes('VmRSS'), peak: bytes('VmHWM') };
  }

  async #launch(listen: string): Promise<void> {
    const { upstreams = [], trustedPublicKeys = [], env = {} } = this.#options;
    const child = spawn(
      join(REPOSITORY, 'node_modules/.bin/node'),
      ['--max-semi-space-size=2', join(REPOSITORY, 'bin/snowcap.js'), 'serve'],
      {
        cwd: this.directory,
        // The whole environment: no proxy and no setting of the machine gets in.
        env: {
          PATH: process.env['PATH'] ?? '',
          HOME: this.directory,
          SNOWCAP_LISTEN: listen,
          SNOWCAP_STORAGE: `file:${this.storage}`,
          SNOWCAP_DATABASE: `sqlite:${join(this.directory, 'index.db')}`,
          SNOWCAP_HOSTNAME: 'snowcap.test',
          SNOWCAP_UPSTREAMS: upstreams.join(' '),
          SNOWCAP_TRUSTED_PUBLIC_KEYS: trustedPublicKeys.join(' '),
          SNOWCAP_LOG_FORMAT: 'json',
          SNOWCAP_LOG_LEVEL: 'debug',
          ...env,
        },
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    this.#child = child;
    this.#ending = false;
    const killed = (): void => void child.kill('SIGKILL');
    process.once('exit', killed);
    this.#exit = new Promise((resolve) => {
      const gone = (code: number | null, signal: NodeJS.Signals | null): void => {
        process.off('exit', killed);
        if (!this.#ending) this.#crash ??= { code, signal };
        this.#output += `(ended: code ${code}, signal ${signal})\n`;
        if (this.#child === child) this.#child = null;
        resolve({ code, signal });
      };
      child.once('close', gone);
      child.once('error', (error) => {
        this.#output += `${error.message}\n`;
        gone(null, null);
      });
    });
    await this.#ready(child);
  }

  async #ready(child: ChildProcess): Promise<void> {
    let announce: (url: string) => void = () => undefined;
    const listening = new Promise<string>((resolve) => {
      announce = resolve;
    });
    const onLine = (line: string): void => {
      const log = parseLogLine(line);
      if (log === null) return;
      this.#logs.push(log);
      if (log.msg?.includes('listening') === true && typeof log['url'] === 'string') announce(log['url']);
    };
    this.#readLines(child.stdout, onLine);
    this.#readLines(child.stderr, onLine);
    const url = await Promise.race([
      listening,
      this.#exit.then(() => null),
      sleep(START_LIMIT_MS, null, { ref: false }),
    ]);
    if (url !== null) {
      this.#url = url.replace(/\/$/, '');
      return;
    }
    await this.kill();
    throw new Error(`Snowcap did not get ready\n${this.#tail()}`);
  }

  #readLines(stream: NodeJS.ReadableStream | null, onLine: (line: string) => void): void {
    let rest = '';
    stream?.setEncoding('utf8');
    stream?.on('data', (text: string) => {
      this.#output += text;
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      lines.forEach(onLine);
    });
  }

  /** The last lines printed, for an error; answered requests are left out. */
  #tail(): string {
    const lines = this.#output
      .split('\n')
      .filter((line) => !line.includes('"level":"info"') || !line.includes('"msg":"request"'));
    return lines.slice(-20).join('\n');
  }
}

function parseLogLine(line: string): LogLine | null {
  if (!line.startsWith('{')) return null;
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? { ...value } : null;
  } catch {
    return null;
  }
}
