import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { CacheServices } from '../../src/cache/services.ts';
import { withCleanup } from '../../src/stream/byte-stream.ts';
import { download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { servedKey, withMethods } from '../support/replaced.ts';
import { publish, type SignedPath, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache, until } from '../support/test-cache.ts';

let upstream: FaultServer;
let snowcap: TestCache;
let path: SignedPath;

beforeEach(async () => {
  upstream = await startFaultServer();
  path = await signedPath({ compression: 'xz', size: 400_000 });
  publish(upstream, path);
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

async function start(replace: (services: CacheServices) => Partial<CacheServices>): Promise<void> {
  snowcap = await startTestCache({ upstreams: [upstream.url], storage: 'file', replace });
}

/** Digests that wait until they are let go, each with a call of `go`. */
function gated({ digestNar }: Pick<CacheServices, 'digestNar'>): {
  readonly digestNar: CacheServices['digestNar'];
  /** How many were begun. */
  begun(): number;
  /** How many have ended. */
  ended(): number;
  go(): void;
} {
  const gates: PromiseWithResolvers<void>[] = [];
  const gate = (nth: number): PromiseWithResolvers<void> => (gates[nth] ??= Promise.withResolvers());
  let begun = 0;
  let ended = 0;
  let gone = 0;
  return {
    async digestNar(...parts) {
      await gate(begun++).promise;
      return await digestNar(...parts).finally(() => (ended += 1));
    },
    begun: () => begun,
    ended: () => ended,
    go: () => gate(gone++).resolve(),
  };
}

/** As an eviction does it. */
async function evict(key: string): Promise<void> {
  const { metadata, storage } = snowcap.services;
  const generation = (await metadata.getNar(key))?.nar.generation ?? 0;
  await storage.delete([`${path.hash}.narinfo`, key]);
  expect(await metadata.markAbsent(key, generation)).toBe(true);
}

async function rowOf(key: string): Promise<readonly (string | null | undefined)[]> {
  const nar = (await snowcap.services.metadata.getNar(key))?.nar;
  return [nar?.state, nar?.verification];
}

describe('law 2: what happens to a body while it is verified in the background', () => {
  let digests: ReturnType<typeof gated>;

  beforeEach(async () => {
    await start((services) => {
      digests = gated(services);
      return { digestNar: digests.digestNar };
    });
  });

  async function fill(): Promise<void> {
    const key = await servedKey(snowcap, path);
    expect((await download(`${snowcap.url}/${key}`)).ended).toBe('clean');
    await until(async () => (await rowOf(key))[0] === 'present');
  }

  it('does not come back to life where it was evicted', async () => {
    await fill();
    await until(() => digests.begun() === 1);
    await evict(path.url);
    digests.go();
    await until(() => digests.ended() === 1);
    await snowcap.cache.drain(AbortSignal.timeout(5_000));
    expect((await rowOf(path.url))[0]).toBe('absent');
    expect(await snowcap.services.metadata.totals()).toEqual({ presentBytes: 0, presentNars: 0 });
    expect(await snowcap.services.storage.head(`${path.hash}.narinfo`)).toBeNull();
  });

  it('does not spare the one that is stored after it from being verified itself', async () => {
    await fill();
    await until(() => digests.begun() === 1);
    await evict(path.url);
    await fill();
    digests.go();
    await until(() => digests.begun() === 2);
    expect(await rowOf(path.url)).toEqual(['present', 'file']);
    digests.go();
    await until(async () => (await rowOf(path.url))[1] === 'nar');
    expect(digests.begun()).toBe(2);
  });
});

describe('law 2: a stored body that cannot be looked at', () => {
  it('is left where the digest fails before its first byte, and stays as it is', async () => {
    let opened = 0;
    let over = 0;
    await start(({ storage }) => ({
      digestNar: () => Promise.reject(new Error('There is no thread')),
      storage: withMethods(storage, {
        async get(key, options) {
          const blob = await storage.get(key, options);
          if (blob?.kind !== 'found' || blob.body.kind !== 'stream') return blob;
          opened += 1;
          const stream = withCleanup(blob.body.stream, () => (over += 1));
          return { ...blob, body: { kind: 'stream', stream } };
        },
      }),
    }));
    const key = await servedKey(snowcap, path);
    await download(`${snowcap.url}/${key}`);
    await until(() => snowcap.metric('snowcap_background_failures_total', { what: 'verification' }) === 1);
    expect(opened).toBe(1);
    expect(over).toBe(1);
    expect(await rowOf(key)).toEqual(['present', 'file']);
  });

  it('is not called verified where its compression is unknown', async () => {
    await start(({ metadata }) => ({
      metadata: withMethods(metadata, {
        async getNar(key, limit) {
          const named = await metadata.getNar(key, limit);
          return named === null ? null : { ...named, nar: { ...named.nar, compression: 'lzip' } };
        },
      }),
    }));
    await servedKey(snowcap, path);
    await snowcap.services.storage.put(path.url, { kind: 'bytes', bytes: path.body });
    expect((await download(`${snowcap.url}/${path.url}`)).ended).toBe('clean');
    await until(() => snowcap.logs.some(({ message }) => message.includes('its compression is unknown')));
    await snowcap.settled();
    expect((await rowOf(path.url))[0]).toBe('known');
    expect(await snowcap.services.metadata.totals()).toEqual({ presentBytes: 0, presentNars: 0 });
    // The hit's own.
    expect(snowcap.operations['storage.get']).toBe(1);
  });
});
