import type { BackgroundJob } from '../../platform.ts';

/** What Lambda says of the function in its environment. */
export interface FunctionName {
  readonly name: string;
  /** A number, or `$LATEST`. */
  readonly version: string;
}

/** A work order is a few hundred bytes: what takes longer than this many milliseconds is lost. */
const TIMEOUT_MS = 5_000;

/**
 * Hands work to another invocation of this very function, asynchronously. The client of AWS is loaded where it is needed:
 * most invocations hand over nothing.
 *
 * @returns resolves when Lambda has taken the job, and throws what its API throws
 */
export function createSelfInvocation({ name, version }: FunctionName): (job: BackgroundJob) => Promise<void> {
  const open = async () => {
    const { InvokeCommand, LambdaClient } = await import('@aws-sdk/client-lambda');
    return { client: new LambdaClient({}), InvokeCommand };
  };
  let opened: ReturnType<typeof open> | null = null;
  return async (job) => {
    const { client, InvokeCommand } = await (opened ??= open());
    const command = new InvokeCommand({
      FunctionName: name,
      InvocationType: 'Event',
      Payload: new TextEncoder().encode(JSON.stringify(job)),
      // An alias would lead to another version where a deployment is under way.
      ...(version === '$LATEST' ? {} : { Qualifier: version }),
    });
    await client.send(command, { abortSignal: AbortSignal.timeout(TIMEOUT_MS) });
  };
}
