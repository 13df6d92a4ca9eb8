import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';

const BOOTSTRAP: string = fileURLToPath(new URL('./bootstrap.ts', import.meta.url));
const NODE: string = fileURLToPath(new URL('../../../node_modules/.bin/node', import.meta.url));

/** What the service gives an environment and wants to know of it. */
export interface EnvironmentOptions {
  /** Directory of the unpacked artefact. */
  readonly taskRoot: string;
  /** As `index.handler`. */
  readonly handler: string;
  readonly env: Readonly<Record<string, string>>;
  /** Of an invocation, in milliseconds. */
  readonly timeoutMs: number;
  /** Called with all that the function prints. */
  readonly onOutput: (text: string) => void;
}

/** Where the answer of an invocation goes. */
export interface InvocationAnswer {
  /** Called once, before the first piece: what the function says of the content, and whether it streams. */
  begin(contentType: string, streaming: boolean): void;
  /** Takes a piece; the function may write on when the promise resolves. */
  chunk(bytes: Buffer): Promise<void>;
  /** Called once, when nothing more comes: the function may go on working all the same. */
  end(end: InvocationEnd): void;
}

/** How an invocation ended for the service. */
export type InvocationEnd =
  | { readonly kind: 'done' }
  /** The function said so, before or after the begin of its answer, or it ran out of time, or it crashed. */
  | { readonly kind: 'failed'; readonly error: string };

interface Invocation {
  readonly id: string;
  readonly event: unknown;
  readonly answer: InvocationAnswer;
  readonly ended: PromiseWithResolvers<InvocationEnd>;
}

let invocations = 0;

/**
 * One execution environment: a process and the Runtime API for it. It takes one invocation at a time. Between
 * invocations the process stands still (SIGSTOP), as the real one does: no timer fires, no byte is read.
 */
export class Environment {
  readonly #options: EnvironmentOptions;
  readonly #server: Server;
  #child: ChildProcess | null = null;
  #waiting: ServerResponse | null = null;
  #current: Invocation | null = null;
  #timer: NodeJS.Timeout | undefined;
  #ready: PromiseWithResolvers<void> = Promise.withResolvers();
  #gone = false;
  #answered = false;
  #frozen = false;
  /** Milliseconds from the start of the process until it asked for its first invocation. */
  initMs: number | null = null;

  private constructor(options: EnvironmentOptions) {
    this.#options = options;
    this.#server = createServer((incoming, outgoing) => void this.#serve(incoming, outgoing));
    this.#server.requestTimeout = 0;
    this.#ready.promise.catch(() => undefined);
  }

  /** @throws Error where the function could not be initialised */
  static async start(options: EnvironmentOptions): Promise<Environment> {
    const environment = new Environment(options);
    await new Promise<void>((resolve) => environment.#server.listen(0, '127.0.0.1', resolve));
    environment.#spawn();
    try {
      await environment.#ready.promise;
    } catch (error) {
      await environment.stop();
      throw error;
    }
    return environment;
  }

  /** Whether its process has ended: it takes no more invocations. */
  get gone(): boolean {
    return this.#gone;
  }

  /** Resolves when the function has asked for its next invocation, and stands still again. */
  async invoke(event: unknown, answer: InvocationAnswer): Promise<InvocationEnd> {
    if (this.#current !== null) throw new Error('An environment takes one invocation at a time');
    await this.#ready.promise;
    const ended = Promise.withResolvers<InvocationEnd>();
    invocations += 1;
    this.#answered = false;
    const id = `00000000-0000-4000-8000-${String(invocations).padStart(12, '0')}`;
    this.#current = { id, event, answer, ended };
    this.#timer = setTimeout(
      () => this.#kill(`Task timed out after ${this.#options.timeoutMs} ms`),
      this.#options.timeoutMs,
    );
    this.#hand();
    const end = await ended.promise;
    clearTimeout(this.#timer);
    // The function may still work after its answer: the invocation is over when it asks for the next one.
    await this.#ready.promise.catch(() => undefined);
    this.#current = null;
    return end;
  }

  /** Whether its process stands still, as the system says. */
  async isFrozen(): Promise<boolean> {
    return /^State:\s+T/m.test(await readFile(`/proc/${this.#child?.pid}/status`, 'utf8'));
  }

  /** The most memory that the process ever had, in bytes. */
  async peakRss(): Promise<number> {
    const status = await readFile(`/proc/${this.#child?.pid}/status`, 'utf8');
    return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? Number.NaN) * 1024;
  }

  async stop(): Promise<void> {
    const child = this.#child;
    if (child !== null && !this.#gone) {
      const gone = new Promise((resolve) => child.once('close', resolve));
      child.kill('SIGKILL');
      await gone;
    }
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #spawn(): void {
    const begun = performance.now();
    const { port } = this.#server.address() as AddressInfo;
    const { taskRoot, handler, env } = this.#options;
    const child = spawn(NODE, [BOOTSTRAP], {
      cwd: taskRoot,
      // The whole environment, with what Lambda defines: no setting of the machine gets in.
      env: {
        PATH: process.env['PATH'] ?? '',
        TZ: ':UTC',
        LANG: 'en_US.UTF-8',
        _HANDLER: handler,
        LAMBDA_TASK_ROOT: taskRoot,
        AWS_LAMBDA_RUNTIME_API: `127.0.0.1:${port}`,
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    const killed = (): void => void child.kill('SIGKILL');
    process.once('exit', killed);
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', this.#options.onOutput);
    }
    child.once('close', (code, signal) => {
      process.off('exit', killed);
      this.#gone = true;
      const error = `Runtime exited (code ${code}, signal ${signal})`;
      this.#ready.reject(new Error(error));
      this.#end({ kind: 'failed', error });
    });
    void this.#ready.promise.then(
      () => {
        this.initMs ??= performance.now() - begun;
      },
      () => undefined,
    );
  }

  async #serve(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const path = incoming.url?.replace('/2018-06-01/runtime/', '') ?? '';
    if (path === 'invocation/next') {
      this.#waiting = outgoing;
      this.#freeze();
      this.#ready.resolve();
      return;
    }
    const [, id, what] = /^invocation\/([^/]+)\/(response|error)$/.exec(path) ?? [];
    const current = this.#current;
    if (path === 'init/error' || current === null || current.id !== id) {
      incoming.resume();
      outgoing.writeHead(path === 'init/error' ? 202 : 403).end();
      return;
    }
    try {
      this.#end(await (what === 'error' ? refused(incoming) : answered(incoming, current.answer)));
    } catch (error) {
      // Cut off in the middle: `Runtime.TruncatedResponse`.
      this.#end({ kind: 'failed', error: error instanceof Error ? error.message : String(error) });
    }
    outgoing.writeHead(202).end();
  }

  #end(end: InvocationEnd): void {
    if (this.#answered || this.#current === null) return;
    this.#answered = true;
    this.#current.answer.end(end);
    this.#current.ended.resolve(end);
  }

  #kill(why: string): void {
    this.#options.onOutput(`${why}\n`);
    this.#end({ kind: 'failed', error: why });
    this.#child?.kill('SIGKILL');
  }

  #hand(): void {
    const { event, id } = this.#current ?? {};
    const outgoing = this.#waiting;
    if (outgoing === null || id === undefined) throw new Error('The environment does not wait');
    this.#waiting = null;
    this.#ready = Promise.withResolvers();
    this.#ready.promise.catch(() => undefined);
    this.#thaw();
    outgoing.writeHead(200, {
      'Content-Type': 'application/json',
      'Lambda-Runtime-Aws-Request-Id': id,
      'Lambda-Runtime-Deadline-Ms': String(Date.now() + this.#options.timeoutMs),
      'Lambda-Runtime-Invoked-Function-Arn': `arn:aws:lambda:us-east-1:123456789012:function:${this.#options.env['AWS_LAMBDA_FUNCTION_NAME'] ?? ''}`,
    });
    outgoing.end(JSON.stringify(event));
  }

  #freeze(): void {
    if (this.#gone || this.#frozen) return;
    this.#frozen = true;
    this.#child?.kill('SIGSTOP');
  }

  #thaw(): void {
    if (!this.#frozen) return;
    this.#frozen = false;
    this.#child?.kill('SIGCONT');
  }
}

async function refused(incoming: IncomingMessage): Promise<InvocationEnd> {
  let text = '';
  for await (const piece of incoming) text += String(piece);
  return { kind: 'failed', error: text };
}

async function answered(incoming: IncomingMessage, answer: InvocationAnswer): Promise<InvocationEnd> {
  const streaming = incoming.headers['lambda-runtime-function-response-mode'] === 'streaming';
  let begun = false;
  for await (const piece of incoming as AsyncIterable<Buffer>) {
    if (!begun) answer.begin(incoming.headers['content-type'] ?? '', streaming);
    begun = true;
    await answer.chunk(piece);
  }
  const error = incoming.trailers['lambda-runtime-function-error-body'];
  if (error !== undefined) return { kind: 'failed', error: Buffer.from(error, 'base64').toString() };
  if (!begun) answer.begin(incoming.headers['content-type'] ?? '', streaming);
  return { kind: 'done' };
}
