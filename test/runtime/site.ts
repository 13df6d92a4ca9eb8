import { createHash } from 'node:crypto';
import { afterAll, beforeAll } from 'vitest';
import { download } from '../support/download.ts';
import type { Download, DownloadOptions } from '../support/download.ts';
import { startFaultServer } from '../support/fault-server.ts';
import type { FaultServer } from '../support/fault-server.ts';
import { publish, signedPath, upstreamPublicKey } from '../support/signed-path.ts';
import type { SignedPath, SignedPathOptions } from '../support/signed-path.ts';
import { until } from '../support/test-cache.ts';
import type { RunningRuntime, RuntimeContract, RuntimeOptions } from './runtime.contract.ts';

/** A Snowcap on the runtime under test, with an upstream that does as it is told. */
export interface Site {
  readonly upstream: FaultServer;
  readonly snowcap: RunningRuntime;
  /** A path that only this upstream has, named so that no test meets another one's. */
  publish(options?: SignedPathOptions): Promise<Published>;
}

/** A path of the upstream, as it is asked for here. */
export interface Published extends SignedPath {
  /** `/<hash>.narinfo` */
  readonly narInfoRoute: string;
  /** `/nar/…`, as the narinfo of this Snowcap would name it. */
  readonly narRoute: string;
  /** SHA-256 of the body, hex. */
  readonly sha256: string;
}

/** To be called while tests are collected: starts both before the first of them, and ends both after the last. */
export function useSite(contract: RuntimeContract, options: Partial<RuntimeOptions> = {}): () => Site {
  let upstream: FaultServer | undefined;
  let snowcap: RunningRuntime | undefined;
  let paths = 0;

  beforeAll(async () => {
    upstream = await startFaultServer();
    snowcap = await contract.start({
      upstreams: [upstream.url],
      trustedPublicKeys: [await upstreamPublicKey()],
      delivery: 'proxy',
      ...options,
    });
  });

  afterAll(async () => {
    await snowcap?.stop();
    await upstream?.close();
  });

  return () => {
    if (upstream === undefined || snowcap === undefined) throw new Error('The site was not started');
    const server = upstream;
    return {
      upstream: server,
      snowcap,
      async publish(pathOptions) {
        paths += 1;
        const path = await signedPath({ name: `path-${paths}`, seed: paths, ...pathOptions });
        publish(server, path);
        return { ...path, ...routesOf(path) };
      },
    };
  };
}

/** Routes for a path whose upstream names its NAR by the FileHash. */
function routesOf(path: SignedPath): Pick<Published, 'narInfoRoute' | 'narRoute' | 'sha256'> {
  return {
    narInfoRoute: `/${path.hash}.narinfo`,
    narRoute: `/${path.url}`,
    sha256: createHash('sha256').update(path.body).digest('hex'),
  };
}

/** What a client got in the end that follows redirects, as Nix does. */
export interface Followed extends Download {
  /** Of the body, hex. */
  readonly sha256: string;
  /** Bytes of the body. */
  readonly size: number;
  /** The redirects before it, in order. */
  readonly redirects: readonly Download[];
}

const REDIRECTS = new Set([301, 302, 307, 308]);

/** @param url with its host; each request has a connection of its own */
export async function fetchFollowing(url: string, options: DownloadOptions = {}): Promise<Followed> {
  const redirects: Download[] = [];
  for (let target = url; ;) {
    const hash = createHash('sha256');
    let size = 0;
    const answer = await download(target, {
      ...options,
      onChunk(chunk) {
        hash.update(chunk);
        size += chunk.length;
      },
    });
    const { location } = answer.headers;
    if (!REDIRECTS.has(answer.status) || location === undefined) {
      return { ...answer, sha256: hash.digest('hex'), size, redirects };
    }
    redirects.push(answer);
    if (redirects.length > 10) throw new Error(`More than 10 redirects from ${url}`);
    target = new URL(location, target).href;
  }
}

/** Asks for a path until it is stored: until its NAR is given without the upstream. */
export async function store({ snowcap, upstream }: Site, path: Published): Promise<void> {
  await download(`${snowcap.url}${path.narInfoRoute}`);
  await until(
    async () => {
      const asked = upstream.requestsTo(path.narRoute, 'GET').length;
      const { status, size } = await fetchFollowing(`${snowcap.url}${path.narRoute}`);
      const again = upstream.requestsTo(path.narRoute, 'GET').length;
      return status === 200 && size === path.body.length && asked > 0 && asked === again;
    },
    () => `${path.narRoute} was not stored`,
    30_000,
  );
}
