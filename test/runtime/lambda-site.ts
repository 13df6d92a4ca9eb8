import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatPublicKey, formatSecretKey, generateSecretKey } from '../../src/nix/signing-key.ts';
import { lambdaBundle } from '../support/lambda-bundle.ts';
import { LambdaService } from '../support/lambda-runtime.ts';
import type { LambdaOptions } from '../support/lambda-runtime.ts';
import type { RunningRuntime, RuntimeOptions } from './runtime.contract.ts';

/** A function that answers, with its service at hand. */
export interface RunningLambda extends RunningRuntime {
  readonly service: LambdaService;
  /** Where the storage is, if it is one of files; a plain cache directory. */
  readonly storage: string;
}

/**
 * The function over files and SQLite, which its environments share as they would on EFS, or over what `env` says
 * instead.
 */
export async function startLambda(
  { upstreams, trustedPublicKeys, delivery, env = {} }: RuntimeOptions,
  options: Partial<LambdaOptions> & Pick<LambdaOptions, 'setUp'>,
): Promise<RunningLambda> {
  const directory = await mkdtemp(join(tmpdir(), 'snowcap-lambda-'));
  const storage = join(directory, 'storage');
  const key = await generateSecretKey('snowcap.test-1');
  const service = await LambdaService.start({
    taskRoot: await lambdaBundle(),
    // The worse of what a client may see of a stream that breaks off.
    brokenStreams: 'end',
    ...options,
    env: {
      SNOWCAP_STORAGE: `file:${storage}`,
      SNOWCAP_DATABASE: `sqlite:${join(directory, 'index.db')}`,
      SNOWCAP_SPOOL_DIR: join(directory, 'spool'),
      SNOWCAP_SECRET_KEY: formatSecretKey(key),
      SNOWCAP_UPSTREAMS: upstreams.join(' '),
      SNOWCAP_TRUSTED_PUBLIC_KEYS: trustedPublicKeys.join(' '),
      SNOWCAP_NAR_DELIVERY: delivery,
      ...env,
    },
  });
  return {
    service,
    storage,
    url: service.url,
    publicKey: formatPublicKey(key.publicKey),
    async stop() {
      await service.settled();
      await service.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
