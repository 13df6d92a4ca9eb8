import { request } from 'node:http';
import type { ClientRequest, IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

/**
 * The program that an environment of Lambda runs: what the managed Node runtime does, as far as its documentation and the
 * behaviour of AWS's own runtime interface client are known. It loads the handler that `_HANDLER` names from
 * `LAMBDA_TASK_ROOT`, then takes one invocation after another from the Runtime API.
 *
 * https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
 * https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming
 */

const STREAMING = Symbol('streaming');
const PRELUDE_TYPE = 'application/vnd.awslambda.http-integration-response';
const ERROR_TYPE = 'Lambda-Runtime-Function-Error-Type';
const ERROR_BODY = 'Lambda-Runtime-Function-Error-Body';

/** The body of the answer, and what `HttpResponseStream.from` adds to it: metadata before the first write. */
type ResponseStream = ClientRequest & {
  setContentType(type: string): void;
  beforeFirstWrite?: (write: (bytes: string | Uint8Array) => void) => void;
};

interface Context {
  readonly awsRequestId: string;
  readonly invokedFunctionArn: string;
  readonly functionName: string;
  readonly functionVersion: string;
  readonly memoryLimitInMB: string;
  callbackWaitsForEmptyEventLoop: boolean;
  getRemainingTimeInMillis(): number;
}

type Handler = ((...parameters: unknown[]) => unknown) & { readonly [STREAMING]?: true };

Object.assign(globalThis, {
  awslambda: {
    streamifyResponse: (handler: Handler): Handler => Object.assign(handler, { [STREAMING]: true as const }),
    HttpResponseStream: {
      from(stream: ResponseStream, metadata: unknown): ResponseStream {
        stream.setContentType(PRELUDE_TYPE);
        stream.beforeFirstWrite = (write) => {
          write(JSON.stringify(metadata));
          write(new Uint8Array(8));
        };
        return stream;
      },
    },
  },
});

/** Resolves with the head of the answer; its body is read by the caller. */
function call(
  path: string,
  method: 'GET' | 'POST',
  body?: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const outgoing = request(urlOf(path), { method, headers, agent: false }, resolve);
    outgoing.once('error', reject);
    outgoing.end(body);
  });
}

function urlOf(path: string): string {
  return `http://${process.env['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/runtime/${path}`;
}

async function textOf(incoming: IncomingMessage): Promise<string> {
  let text = '';
  incoming.setEncoding('utf8');
  for await (const piece of incoming) text += String(piece);
  return text;
}

/** The managed runtime writes every failed invocation into the log of the function. */
function logFailure(thrown: unknown): void {
  const text = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
  process.stderr.write(`Invoke Error ${text}\n`);
}

function errorOf(thrown: unknown): { readonly errorType: string; readonly errorMessage: string } {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  return { errorType: error.name, errorMessage: error.message };
}

/** `index.handler`: the export `handler` of `index.mjs`. */
async function loadHandler(): Promise<Handler> {
  const [file = '', name = ''] = (process.env['_HANDLER'] ?? '').split('.');
  const place = join(process.env['LAMBDA_TASK_ROOT'] ?? '', `${file}.mjs`);
  const module: unknown = await import(pathToFileURL(place).href);
  const handler: unknown =
    typeof module === 'object' && module !== null ? Reflect.get(module, name) : undefined;
  if (typeof handler !== 'function') throw new Error(`${file}.mjs exports no function ${name}`);
  return handler as Handler;
}

function contextOf(headers: IncomingHttpHeaders): Context {
  const header = (name: string): string => String(headers[name] ?? '');
  const deadline = Number(header('lambda-runtime-deadline-ms'));
  return {
    awsRequestId: header('lambda-runtime-aws-request-id'),
    invokedFunctionArn: header('lambda-runtime-invoked-function-arn'),
    functionName: process.env['AWS_LAMBDA_FUNCTION_NAME'] ?? '',
    functionVersion: process.env['AWS_LAMBDA_FUNCTION_VERSION'] ?? '',
    memoryLimitInMB: process.env['AWS_LAMBDA_FUNCTION_MEMORY_SIZE'] ?? '',
    callbackWaitsForEmptyEventLoop: true,
    getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
  };
}

/** The stream of one answer: a chunked POST whose trailers carry an error that came after its begin. */
function openResponse(id: string): {
  readonly stream: ResponseStream;
  readonly taken: Promise<void>;
  fail(error: unknown): Promise<void>;
} {
  const outgoing = request(urlOf(`invocation/${id}/response`), {
    method: 'POST',
    agent: false,
    headers: {
      'Lambda-Runtime-Function-Response-Mode': 'streaming',
      'Transfer-Encoding': 'chunked',
      'Content-Type': 'application/octet-stream',
      Trailer: [ERROR_TYPE, ERROR_BODY],
    },
  });
  const taken = new Promise<void>((resolve, reject) => {
    outgoing.once('error', reject);
    outgoing.once('response', (incoming) => {
      incoming.resume();
      incoming.once('end', resolve);
    });
  });
  taken.catch(() => undefined);
  const write = outgoing.write.bind(outgoing) as (...parameters: unknown[]) => boolean;
  let written = false;
  const stream: ResponseStream = Object.assign(outgoing, {
    setContentType(type: string) {
      if (written) throw new Error('Cannot set content-type, too late.');
      outgoing.setHeader('Content-Type', type);
    },
  });
  stream.write = (...parameters: unknown[]) => {
    if (!written) stream.beforeFirstWrite?.((bytes) => void write(bytes));
    written = true;
    return write(...parameters);
  };
  return {
    stream,
    taken,
    async fail(error) {
      const said = errorOf(error);
      outgoing.addTrailers({
        [ERROR_TYPE]: said.errorType,
        [ERROR_BODY]: Buffer.from(JSON.stringify(said)).toString('base64'),
      });
      await new Promise<void>((resolve) => outgoing.end(resolve));
    },
  };
}

async function invokeStreaming(handler: Handler, event: unknown, context: Context): Promise<void> {
  const { stream, taken, fail } = openResponse(context.awsRequestId);
  try {
    await handler(event, stream, context);
    await taken;
    if (!stream.writableFinished) throw new Error('Response stream is not finished.');
  } catch (error) {
    logFailure(error);
    await fail(error).catch(() => undefined);
  }
}

async function invokeBuffered(handler: Handler, event: unknown, context: Context): Promise<void> {
  const path = `invocation/${context.awsRequestId}`;
  let answer: string;
  try {
    answer = JSON.stringify((await handler(event, context)) ?? null);
  } catch (error) {
    logFailure(error);
    const said = errorOf(error);
    await textOf(await call(`${path}/error`, 'POST', JSON.stringify(said), { [ERROR_TYPE]: said.errorType }));
    return;
  }
  await textOf(await call(`${path}/response`, 'POST', answer));
}

try {
  const handler = await loadHandler();
  for (;;) {
    const next = await call('invocation/next', 'GET');
    const event: unknown = JSON.parse(await textOf(next));
    const context = contextOf(next.headers);
    await (handler[STREAMING] === true ? invokeStreaming : invokeBuffered)(handler, event, context);
  }
} catch (error) {
  await textOf(await call('init/error', 'POST', JSON.stringify(errorOf(error)))).catch(() => undefined);
  process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exit(1);
}
