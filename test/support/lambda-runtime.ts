import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Environment } from './lambda/environment.ts';
import type { InvocationAnswer, InvocationEnd } from './lambda/environment.ts';
import { eventOf } from './lambda/events.ts';
import { functionUrl, httpApi } from './lambda/fronts.ts';
import type { FrontOptions } from './lambda/fronts.ts';

/** The ways to a function over HTTP that AWS documents, and whether answers stream there. */
export const LAMBDA_SET_UPS = {
  'function URL, RESPONSE_STREAM': { streams: true, front: 'function-url', handler: 'index.handler' },
  'HTTP API (API Gateway v2)': { streams: false, front: 'http-api', handler: 'index.buffered' },
} as const;

export type LambdaSetUp = keyof typeof LAMBDA_SET_UPS;

export interface LambdaOptions extends FrontOptions {
  readonly setUp: LambdaSetUp;
  /** Directory of the unpacked artefact. */
  readonly taskRoot: string;
  readonly env: Readonly<Record<string, string>>;
  /** As `index.handler`. Default: that of the set-up. */
  readonly handler?: string;
  /** Environments at the same time; further requests wait, where the real one answers 429. Default 3. */
  readonly concurrency?: number;
  /** Of an invocation, in milliseconds. Default 60_000. */
  readonly timeoutMs?: number;
}

/** An asynchronous invocation, as it was asked for and as it ended. */
export interface AsyncInvocation {
  readonly event: unknown;
  /** Null while it waits or runs. */
  readonly end: InvocationEnd | null;
}

/**
 * AWS Lambda as far as one function sees it and its clients do: environments that take one request at a time and stand still
 * between them, a front with its limits, and the Invoke API for asynchronous invocations.
 */
export class LambdaService {
  readonly #options: LambdaOptions;
  readonly #front: Server;
  readonly #api: Server;
  readonly #all = new Set<Environment>();
  readonly #idle: Environment[] = [];
  readonly #queue: (() => void)[] = [];
  readonly #invocations: { event: unknown; end: InvocationEnd | null }[] = [];
  #running = 0;
  #starting = 0;
  #output = '';
  /** As `http://127.0.0.1:1234`, without a final slash. */
  url = '';

  private constructor(options: LambdaOptions) {
    this.#options = options;
    this.#front = createServer((incoming, outgoing) => void this.#answer(incoming, outgoing));
    this.#api = createServer((incoming, outgoing) => void this.#take(incoming, outgoing));
  }

  /** Starts no environment yet: the first request does. */
  static async start(options: LambdaOptions): Promise<LambdaService> {
    const service = new LambdaService(options);
    const ports: number[] = [];
    for (const server of [service.#front, service.#api]) {
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      ports.push((server.address() as AddressInfo).port);
    }
    service.url = `http://127.0.0.1:${ports[0]}`;
    return service;
  }

  /** Everything that the function printed. */
  get output(): string {
    return this.#output;
  }

  /** Asynchronous invocations so far, in order. */
  get asyncInvocations(): readonly AsyncInvocation[] {
    return this.#invocations;
  }

  /** Environments that there are now. */
  get environments(): readonly Environment[] {
    return [...this.#all];
  }

  /** Resolves when no invocation runs and none waits. */
  async settled(): Promise<void> {
    while (this.#running > 0 || this.#invocations.some(({ end }) => end === null)) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async stop(): Promise<void> {
    for (const server of [this.#front, this.#api]) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
    await Promise.all([...this.#all].map((environment) => environment.stop()));
  }

  /** Invokes the function with any event, as `aws lambda invoke` does, and waits until it is done. */
  invoke(event: unknown): Promise<InvocationEnd> {
    return this.#invoke(event, NOBODY);
  }

  async #invoke(event: unknown, answer: InvocationAnswer): Promise<InvocationEnd> {
    this.#running += 1;
    try {
      const environment = await this.#environment();
      if (environment instanceof Error) {
        const end: InvocationEnd = { kind: 'failed', error: environment.message };
        answer.end(end);
        return end;
      }
      const end = await environment.invoke(event, answer);
      this.#release(environment);
      return end;
    } finally {
      this.#running -= 1;
    }
  }

  /** A free environment, a new one, or the next that gets free. */
  async #environment(): Promise<Environment | Error> {
    const idle = this.#idle.pop();
    if (idle !== undefined) return idle;
    const { concurrency = 3, timeoutMs = 60_000, setUp, taskRoot, env } = this.#options;
    const { handler = LAMBDA_SET_UPS[setUp].handler } = this.#options;
    if (this.#starting + this.#all.size >= concurrency) {
      await new Promise<void>((resolve) => this.#queue.push(resolve));
      return await this.#environment();
    }
    this.#starting += 1;
    try {
      const environment = await Environment.start({
        taskRoot,
        handler,
        timeoutMs,
        onOutput: (text) => void (this.#output += text),
        env: {
          AWS_LAMBDA_FUNCTION_NAME: 'snowcap-test-cache',
          AWS_LAMBDA_FUNCTION_VERSION: '$LATEST',
          AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '1024',
          AWS_REGION: 'us-east-1',
          AWS_ACCESS_KEY_ID: 'AKIAIOSFODNN7EXAMPLE',
          AWS_SECRET_ACCESS_KEY: 'test',
          AWS_ENDPOINT_URL_LAMBDA: `http://127.0.0.1:${(this.#api.address() as AddressInfo).port}`,
          ...env,
        },
      });
      this.#all.add(environment);
      return environment;
    } catch (error) {
      this.#queue.shift()?.();
      return error instanceof Error ? error : new Error(String(error));
    } finally {
      this.#starting -= 1;
    }
  }

  #release(environment: Environment): void {
    if (environment.gone) this.#all.delete(environment);
    else this.#idle.push(environment);
    this.#queue.shift()?.();
  }

  async #answer(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    outgoing.on('error', () => undefined);
    const event = await eventOf(incoming, 'lambda.test').catch(() => undefined);
    if (event === undefined) return;
    if (event === null) {
      outgoing.writeHead(413).end('{"message":"Request Entity Too Large"}');
      return;
    }
    const front =
      LAMBDA_SET_UPS[this.#options.setUp].front === 'http-api'
        ? httpApi(outgoing)
        : functionUrl(outgoing, this.#options);
    await this.#invoke(event, front);
  }

  /** `Invoke` with the type Event: taken at once, tried up to three times. */
  async #take(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    let text = '';
    for await (const piece of incoming) text += String(piece);
    const [, name] = /^\/2015-03-31\/functions\/([^/]+)\/invocations/.exec(incoming.url ?? '') ?? [];
    if (name !== 'snowcap-test-cache' || incoming.headers['x-amz-invocation-type'] !== 'Event') {
      outgoing.writeHead(404, { 'x-amzn-errortype': 'ResourceNotFoundException' }).end('{}');
      return;
    }
    outgoing.writeHead(202).end();
    const invocation: { event: unknown; end: InvocationEnd | null } = { event: JSON.parse(text), end: null };
    this.#invocations.push(invocation);
    let end: InvocationEnd = { kind: 'failed', error: 'not tried' };
    for (let attempt = 0; attempt < 3 && end.kind === 'failed'; attempt += 1) {
      end = await this.#invoke(invocation.event, NOBODY);
    }
    invocation.end = end;
  }
}

/** Of an asynchronous invocation nobody sees the answer. */
const NOBODY: InvocationAnswer = {
  begin: () => undefined,
  chunk: async () => undefined,
  end: () => undefined,
};
