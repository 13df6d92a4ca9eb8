import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort, HOST, REPOSITORY, RESULTS_DIRECTORY } from './places.ts';
import { startServer } from './server-process.ts';
import type { MeasuredServer } from './server-process.ts';

export interface SnowcapOptions {
  readonly upstream: string;
  readonly publicKey: string;
  /** Writes a CPU profile to the results when it ends. */
  readonly profile: boolean;
}

/**
 * One Snowcap process with an empty cache, its defaults, and a new working directory (`./data` is in
 * it), which goes away when the server is stopped.
 */
export async function startSnowcap({
  upstream,
  publicKey,
  profile,
}: SnowcapOptions): Promise<MeasuredServer> {
  const directory = await mkdtemp(join(tmpdir(), 'snowcap-bench-data-'));
  const port = await freePort();
  if (profile) await mkdir(RESULTS_DIRECTORY, { recursive: true });
  const server = await startServer(
    process.execPath,
    [
      ...(profile ? ['--cpu-prof', `--cpu-prof-dir=${RESULTS_DIRECTORY}`] : []),
      // As `npm start` does.
      '--max-semi-space-size=2',
      join(REPOSITORY, 'bin/snowcap.js'),
      'serve',
    ],
    {
      port,
      probe: '/nix-cache-info',
      cwd: directory,
      env: {
        PATH: process.env['PATH'],
        SNOWCAP_LISTEN: `${HOST}:${port}`,
        SNOWCAP_UPSTREAMS: upstream,
        SNOWCAP_TRUSTED_PUBLIC_KEYS: publicKey,
        SNOWCAP_HOSTNAME: 'bench.local',
        SNOWCAP_LOG_LEVEL: 'warn',
        SNOWCAP_LOG_FORMAT: 'json',
      },
    },
  );
  return {
    ...server,
    async stop() {
      await server.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
