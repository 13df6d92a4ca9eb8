import { startRemote } from './child-process.ts';
import type { Remote } from './child-process.ts';
import type { ClientAnswer, ClientCall } from './client-process.ts';
import { openBenchCache } from './closure.ts';
import type { BenchCache, Compression } from './closure.ts';
import { startNginx } from './nginx.ts';
import { say } from './places.ts';
import type { MeasuredServer } from './server-process.ts';
import { startSnowcap } from './snowcap.ts';

/** How the bench was called. */
export interface BenchOptions {
  readonly sections: readonly string[];
  readonly compression: Compression;
  /** Factor of the number of runs: 1, or less for a quick look. */
  readonly quick: boolean;
  /** Measures nginx against itself: what the ratios are then is the noise of the machine. */
  readonly control: boolean;
  readonly profile: boolean;
}

/** The number of runs of a measure. */
export function runsOf({ quick }: BenchOptions, runs: number): number {
  return quick ? 1 : runs;
}

export type Client = Remote<ClientCall, ClientAnswer>;

/** Runs `use` with a client process, which is gone afterwards. */
export async function withClient<Result>(use: (client: Client) => Promise<Result>): Promise<Result> {
  const client = startRemote<ClientCall, ClientAnswer>('client-process.ts');
  try {
    return await use(client);
  } finally {
    await client.stop();
  }
}

/** Runs `use` with a server, which is gone afterwards. */
export async function withServer<Result>(
  starting: Promise<MeasuredServer>,
  use: (server: MeasuredServer) => Promise<Result>,
): Promise<Result> {
  const server = await starting;
  try {
    return await use(server);
  } finally {
    await server.stop();
  }
}

/** What is measured: Snowcap before that upstream, or in a control run what `reference` starts. */
export function startSubject(
  options: BenchOptions,
  upstream: string,
  publicKey: string,
  reference: () => Promise<MeasuredServer>,
): Promise<MeasuredServer> {
  return options.control ? reference() : startSnowcap({ upstream, publicKey, profile: options.profile });
}

/** nginx over the cache, and Snowcap before that nginx; both with their client. */
export async function withBothServers<Result>(
  options: BenchOptions,
  use: (both: {
    readonly cache: BenchCache;
    readonly nginx: MeasuredServer;
    readonly snowcap: MeasuredServer;
    readonly client: Client;
  }) => Promise<Result>,
): Promise<Result> {
  const cache = await openBenchCache(options.compression);
  say(
    `${cache.narPaths.length} paths, ${(cache.narBytes / 1e6).toFixed(0)} MB of NARs, compression ${options.compression}`,
  );
  return await withServer(startNginx(cache.directory), (nginx) =>
    withServer(
      startSubject(options, nginx.url, cache.publicKey, () => startNginx(cache.directory)),
      (snowcap) => withClient((client) => use({ cache, nginx, snowcap, client })),
    ),
  );
}
