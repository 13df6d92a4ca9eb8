import { afterAll } from 'vitest';
import { backendsMissing, startBackends } from '../support/backends.ts';
import { formatSecretKey, generateSecretKey } from '../../src/nix/signing-key.ts';
import { SnowcapProcess } from '../support/snowcap-process.ts';
import { testRuntime } from './runtime.contract.ts';
import type { RunningRuntime, RuntimeOptions } from './runtime.contract.ts';

let backends: ReturnType<typeof startBackends> | undefined;

afterAll(async () => {
  await (await backends)?.stop();
});

async function start({
  upstreams,
  trustedPublicKeys,
  delivery,
  env = {},
}: RuntimeOptions): Promise<RunningRuntime> {
  const snowcap = await SnowcapProcess.start({
    upstreams,
    trustedPublicKeys,
    env: { SNOWCAP_LOG_LEVEL: 'info', SNOWCAP_NAR_DELIVERY: delivery, ...env },
  });
  return { url: snowcap.url, publicKey: await snowcap.publicKey(), stop: () => snowcap.dispose() };
}

testRuntime({
  name: 'Node over files and SQLite',
  start,
  largeNar: 'streamed',
  unsupported: { redirects: 'files have no address of their own that a client could be sent to' },
});

testRuntime({
  name: 'Node over S3, Postgres and Redis',
  missing: backendsMissing(),
  async start(options) {
    const servers = await (await (backends ??= startBackends())).fresh();
    const key = formatSecretKey(await generateSecretKey('snowcap.test-1'));
    return await start({ ...options, env: { ...servers, SNOWCAP_SECRET_KEY: key, ...options.env } });
  },
  largeNar: 'streamed',
});
