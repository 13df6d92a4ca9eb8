import packageDescription from '../../package.json' with { type: 'json' };
import { createPinoLogger } from '../telemetry/pino-logger.ts';
import { type BufferedResult, bufferedResult } from './lambda/buffered-answer.ts';
import { lambdaConfig } from './lambda/configuration.ts';
import { type LambdaEnvironment, openEnvironment } from './lambda/environment.ts';
import { parseEvent, requestOf } from './lambda/function-event.ts';
import { createSelfInvocation } from './lambda/self-invocation.ts';
import { type ResponseStream, sendStreamed, type WithHead } from './lambda/streamed-answer.ts';

/** What Lambda tells of an invocation; only what is read of it. */
interface InvocationContext {
  getRemainingTimeInMillis(): number;
}

type StreamingHandler = (event: unknown, stream: ResponseStream, context: InvocationContext) => Promise<void>;

/** A global of the managed Node runtimes. */
declare const awslambda: {
  streamifyResponse(handler: StreamingHandler): StreamingHandler;
  readonly HttpResponseStream: { readonly from: WithHead };
};

async function open(): Promise<LambdaEnvironment> {
  const config = await lambdaConfig(process.env);
  const logger = await createPinoLogger({ level: config.logLevel, format: config.logFormat });
  const { AWS_LAMBDA_FUNCTION_NAME: name = '', AWS_LAMBDA_FUNCTION_VERSION: version = '$LATEST' } =
    process.env;
  const schedule = createSelfInvocation({ name, version });
  return await openEnvironment(config, { logger, version: packageDescription.version, schedule });
}

let opened: Promise<LambdaEnvironment> | null = null;

/** The environment, opened once; where that fails, the next invocation tries again. */
function environment(): Promise<LambdaEnvironment> {
  opened ??= open().catch((error: unknown) => {
    opened = null;
    throw error;
  });
  return opened;
}

// While Lambda makes the environment there is more processor than later. What is wrong shows with the first invocation.
await environment().catch(() => undefined);

/** Does what an event asks for. @param answer sends the answer of a request */
async function invoke(
  given: unknown,
  context: InvocationContext,
  answer: (response: Response) => Promise<void>,
): Promise<void> {
  const event = parseEvent(given);
  const { begin } = await environment();
  const invocation = begin(context.getRemainingTimeInMillis());
  try {
    switch (event.kind) {
      case 'http':
        return await answer(await invocation.fetch(requestOf(event.event, invocation.deadline)));
      case 'job': {
        const outcome = await invocation.cache.run(event.job, invocation.deadline);
        // Lambda tries again what has failed.
        if (outcome.kind === 'later') throw new Error(`The job is to be tried again: ${outcome.reason}`);
        return;
      }
      case 'start-up':
        return await invocation.cache.startUp();
    }
  } finally {
    await invocation.end();
  }
}

/** For a function URL whose invoke mode is RESPONSE_STREAM. */
export const handler: StreamingHandler = awslambda.streamifyResponse(async (event, stream, context) => {
  let answered = false;
  await invoke(event, context, async (response) => {
    answered = true;
    await sendStreamed(response, stream, (target, head) => awslambda.HttpResponseStream.from(target, head));
  });
  if (!answered) stream.end();
});

/** For an HTTP API of API Gateway (payload format 2.0). */
export async function buffered(event: unknown, context: InvocationContext): Promise<BufferedResult | null> {
  let result: BufferedResult | null = null;
  await invoke(event, context, async (response) => {
    result = await bufferedResult(response);
  });
  return result;
}
