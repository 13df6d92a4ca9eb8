import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { SnowcapOptions } from './backend.ts';
import { freePort, HOST, REPOSITORY, RESULTS_DIRECTORY } from './places.ts';
import { startServer } from './server-process.ts';
import type { MeasuredServer } from './server-process.ts';

/** The settings of every Snowcap that is measured, wherever it runs. */
export function settingsOf({ upstream, publicKey, settings }: SnowcapOptions): Record<string, string> {
  return {
    SNOWCAP_UPSTREAMS: upstream,
    SNOWCAP_TRUSTED_PUBLIC_KEYS: publicKey,
    // No line per request, as nginx.
    SNOWCAP_LOG_LEVEL: 'warn',
    ...settings,
  };
}

/**
 * One Snowcap process with its defaults, but for the settings given.
 *
 * @param directory its working directory
 */
export async function startSnowcap(directory: string, options: SnowcapOptions): Promise<MeasuredServer> {
  const port = await freePort();
  const { profile } = options;
  if (profile) await mkdir(RESULTS_DIRECTORY, { recursive: true });
  return await startServer(
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
        SNOWCAP_HOSTNAME: 'bench.local',
        SNOWCAP_LOG_FORMAT: 'json',
        ...settingsOf(options),
      },
    },
  );
}
