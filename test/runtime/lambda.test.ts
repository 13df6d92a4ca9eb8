import { afterAll } from 'vitest';
import { backendsMissing, startBackends } from '../support/backends.ts';
import type { LambdaSetUp } from '../support/lambda-runtime.ts';
import { startLambda } from './lambda-site.ts';
import { testRuntime } from './runtime.contract.ts';
import type { RunningRuntime, RuntimeOptions } from './runtime.contract.ts';

const SHORT = 'a body of up to 6 MB is whole before its head goes out';
const WHOLE = 'API Gateway v2 sends what it has as a whole';

let backends: ReturnType<typeof startBackends> | undefined;

afterAll(async () => {
  await (await backends)?.stop();
});

async function overServers(setUp: LambdaSetUp, options: RuntimeOptions): Promise<RunningRuntime> {
  const env = await (await (backends ??= startBackends())).fresh();
  return await startLambda({ ...options, env: { ...env, ...options.env } }, { setUp });
}

testRuntime({
  name: 'Lambda behind a streaming function URL, over files and SQLite',
  start: (options) => startLambda(options, { setUp: 'function URL, RESPONSE_STREAM' }),
  largeNar: 'redirected',
  unsupported: {
    streaming: SHORT,
    redirects: 'files have no address of their own that a client could be sent to',
    sharedFills: 'the lock of one environment is not seen by the others',
    largeNar: 'without redirects, what Lambda streams ends after 200 MB',
  },
});

testRuntime({
  name: 'Lambda behind a streaming function URL, over S3, Postgres and Redis',
  missing: backendsMissing(),
  start: (options) => overServers('function URL, RESPONSE_STREAM', options),
  largeNar: 'redirected',
  unsupported: { streaming: SHORT },
});

testRuntime({
  name: 'Lambda behind an HTTP API of API Gateway, over S3, Postgres and Redis',
  missing: backendsMissing(),
  start: (options) => overServers('HTTP API (API Gateway v2)', options),
  largeNar: 'redirected',
  unsupported: { streaming: WHOLE },
});
