import { startLambdaOverFiles } from './lambda-site.ts';
import { testRuntime } from './runtime.contract.ts';

const OVER_FILES = {
  redirects: 'files have no address of their own that a client could be sent to',
  largeNar: 'without redirects, what Lambda streams ends after 200 MB, and API Gateway after 6 MB',
  sharedFills: 'the lock of one environment is not seen by the others',
};

testRuntime({
  name: 'Lambda behind a streaming function URL, over files and SQLite',
  start: (options) => startLambdaOverFiles(options, { setUp: 'function URL, RESPONSE_STREAM' }),
  largeNar: 'redirected',
  unsupported: { ...OVER_FILES, streaming: 'a body of up to 6 MB is whole before its head goes out' },
});

testRuntime({
  name: 'Lambda behind an HTTP API of API Gateway, over files and SQLite',
  start: (options) => startLambdaOverFiles(options, { setUp: 'HTTP API (API Gateway v2)' }),
  largeNar: 'redirected',
  unsupported: { ...OVER_FILES, streaming: 'API Gateway v2 sends what it has as a whole' },
});
