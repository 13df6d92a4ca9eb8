import type { Backend, Place } from './backend.ts';
import { startRemote } from './child-process.ts';
import type { Remote } from './child-process.ts';
import type { ClientAnswer, ClientCall } from './client-process.ts';
import { openBenchCache } from './closure.ts';
import type { BenchCache, Compression } from './closure.ts';
import { startNginx } from './nginx.ts';
import { say } from './places.ts';
import type { Target } from './rows.ts';
import type { MeasuredServer } from './server-process.ts';

/** How the bench was called. */
export interface BenchOptions {
  readonly sections: readonly string[];
  readonly backend: Backend;
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

/** A target of speed, which stands for files and SQLite alone: other stores are as fast as they are. */
export function speed({ backend }: BenchOptions, target: Target): Target | null {
  return backend.name === 'files' ? target : null;
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

/** Runs `use` with an empty cache, which is gone afterwards. */
async function withPlace<Result>(
  { backend }: BenchOptions,
  use: (place: Place) => Promise<Result>,
): Promise<Result> {
  const place = await backend.openPlace();
  try {
    return await use(place);
  } finally {
    await place.remove();
  }
}

/** Runs `use` with an empty Snowcap before that upstream. */
export function withSnowcap<Result>(
  options: BenchOptions,
  upstream: string,
  publicKey: string,
  use: (snowcap: MeasuredServer, place: Place) => Promise<Result>,
): Promise<Result> {
  const { profile } = options;
  return withPlace(options, (place) =>
    withServer(place.start({ upstream, publicKey, profile }), (snowcap) => use(snowcap, place)),
  );
}

/** nginx over the cache, and Snowcap before that nginx; both with their client. */
export async function withBothServers<Result>(
  options: BenchOptions,
  use: (both: {
    readonly cache: BenchCache;
    readonly nginx: MeasuredServer;
    readonly snowcap: MeasuredServer;
    /** Null in a control run, where a second nginx is `snowcap`. */
    readonly place: Place | null;
    readonly client: Client;
  }) => Promise<Result>,
): Promise<Result> {
  const cache = await openBenchCache(options.compression);
  say(
    `${cache.narPaths.length} paths, ${(cache.narBytes / 1e6).toFixed(0)} MB of NARs, compression ${options.compression}`,
  );
  return await withServer(startNginx(cache.directory), (nginx) =>
    withClient((client) =>
      options.control
        ? withServer(startNginx(cache.directory), (second) =>
            use({ cache, nginx, snowcap: second, place: null, client }),
          )
        : withSnowcap(options, nginx.url, cache.publicKey, (snowcap, place) =>
            use({ cache, nginx, snowcap, place, client }),
          ),
    ),
  );
}
