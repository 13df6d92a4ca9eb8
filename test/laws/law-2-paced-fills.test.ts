import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { HOLD_BACK_BYTES } from '../../src/cache/fill/flight.ts';
import type { BackgroundJob } from '../../src/platform.ts';
import { StorageError } from '../../src/storage/blob-store.ts';
import { leave } from '../../src/stream/byte-stream.ts';
import { type Download, download } from '../support/download.ts';
import { type Behaviour, type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { type ObservedStore, observedStore } from '../support/observed-store.ts';
import { servedKey, shiftedClock, withMethods } from '../support/replaced.ts';
import {
  publish,
  type SignedPath,
  type SignedPathOptions,
  signedPath,
  withOtherBody,
} from '../support/signed-path.ts';
import { startTestCache, type TestCache, type TestCacheOptions, until } from '../support/test-cache.ts';

const CHUNK = 64 * 1024;
const PUT_MEMORY = 1024 * 1024;
const never = (): Promise<void> => new Promise(() => undefined);

let upstream: FaultServer;
let snowcap: TestCache;
let path: SignedPath;
let seen: ObservedStore;
let key: string;
/** Bytes that were read from the upstream for bodies. */
let pulled: number;
let jobs: BackgroundJob[];

/** Starts a Snowcap without a spool that knows the path already. */
async function start(
  onChunk: (taken: number) => void | Promise<void> = () => undefined,
  { replace, ...options }: TestCacheOptions = {},
): Promise<void> {
  snowcap = await startTestCache({
    upstreams: [upstream.url],
    spool: 'none',
    replace: (services) => {
      seen = observedStore(services.storage, onChunk, PUT_MEMORY);
      const { upstreams } = services;
      const counted = withMethods(upstreams, {
        async openNar(source, how) {
          const opened = await upstreams.openNar(source, how);
          return opened.kind === 'found' ? { ...opened, body: counting(opened.body) } : opened;
        },
      });
      return { storage: seen.store, upstreams: counted, ...replace?.(services) };
    },
    ...options,
  });
  key = await servedKey(snowcap, path);
}

async function* counting(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
  for await (const chunk of body) {
    pulled += chunk.length;
    yield chunk;
  }
}

/** A runtime whose work ends with its requests. */
function shortLived(schedule: boolean): TestCacheOptions {
  const taken = {
    schedule: (job: BackgroundJob): Promise<void> => {
      jobs.push(job);
      return Promise.resolve();
    },
  };
  return { platform: { fillsOutliveClients: false, ...(schedule ? taken : {}) } };
}

async function published(options: SignedPathOptions = {}, behaviour: Behaviour = {}): Promise<void> {
  path = await signedPath({ size: 3_000_000, ...options });
  publish(upstream, path, behaviour);
}

function nar(options: Parameters<typeof download>[1] = {}): Promise<Download> {
  return download(`${snowcap.url}/${key}`, options);
}

function expectWhole(one: Download): void {
  expect(one).toMatchObject({ status: 200, ended: 'clean' });
  expect(one.bytes.equals(path.body)).toBe(true);
}

async function expectStored(): Promise<void> {
  await snowcap.settled();
  expect((await snowcap.services.storage.head(key))?.size).toBe(path.body.length);
  expect((await snowcap.services.metadata.getNar(key))?.nar.state).toBe('present');
  expect(await snowcap.services.storage.head(`${path.hash}.narinfo`)).not.toBeNull();
}

async function expectNothingStored(): Promise<void> {
  await snowcap.settled();
  expect(await snowcap.services.storage.head(key)).toBeNull();
  expect(await snowcap.services.storage.head(`${path.hash}.narinfo`)).toBeNull();
  expect((await snowcap.services.metadata.getNar(key))?.nar.state).toBe('known');
}

beforeEach(async () => {
  upstream = await startFaultServer();
  pulled = 0;
  jobs = [];
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

describe('law 2: a body without a spool goes into the store while it comes in', () => {
  it.each<readonly [string, SignedPathOptions, Behaviour]>([
    ['plain', {}, {}],
    ['zstd', { compression: 'zstd', size: 2_000_000 }, {}],
    ['xz, whose NarHash is checked later', { compression: 'xz', size: 1_500_000 }, {}],
    [
      'of an upstream that tells no size',
      { compression: 'zstd', fileFields: false },
      { contentLength: 'chunked' },
    ],
  ])('%s: right for the client, stored in one put, and a hit afterwards', async (_, options, behaviour) => {
    await published(options, behaviour);
    await start();
    expectWhole(await nar());
    await expectStored();
    expect(seen.puts).toEqual([{ key, taken: path.body.length, ended: 'clean' }]);
    expectWhole(await nar());
    expect(upstream.requestsTo(`/${path.url}`, 'GET')).toHaveLength(1);
  });

  it('is not whole for the store, nor for the client, before it was verified', async () => {
    const end = Promise.withResolvers<void>();
    await published({}, { stallAt: 3_000_111, until: end.promise });
    await start();
    let received = 0;
    const answer = nar({ onProgress: (bytes) => (received = bytes) });
    await until(() => received === path.body.length - HOLD_BACK_BYTES && pulled === path.body.length - 1);
    expect(seen.puts[0]?.taken).toBeLessThan(path.body.length - 1);
    expect(seen.puts[0]?.ended).toBeNull();
    end.resolve();
    expectWhole(await answer);
    await expectStored();
  });

  it.each<readonly [string, () => Promise<SignedPath>, Behaviour]>([
    ['has a wrong bit', () => signedPath({ size: 2_000_000 }), { flipBitAt: 100 }],
    ['has a wrong last bit', () => signedPath({ size: 2_000_000 }), { flipBitAt: 1_999_999 }],
    ['ends early', () => signedPath({ size: 2_000_000 }), { truncateAt: 700_000, ranges: false }],
    ['stands still', () => signedPath({ size: 2_000_000 }), { stallAt: 700_000, ranges: false }],
    ['holds another NAR', () => withOtherBody({ size: 2_000_000, compression: 'zstd' }), {}],
    [
      'is larger than any encoding of its NAR',
      async () => {
        const small = await signedPath({
          size: 1_200_000,
          compression: 'zstd',
          fileFields: false,
          prose: true,
        });
        return { ...small, body: Buffer.concat([small.body, Buffer.alloc(2_000_000)]) };
      },
      { contentLength: 'chunked' },
    ],
  ])('that %s leaves nothing, and no client believes it', async (_, make, behaviour) => {
    path = await make();
    publish(upstream, path, behaviour);
    await start();
    const one = await nar();
    expect(one.ended).toBe('broken');
    await expectNothingStored();
    expect(seen.puts).toMatchObject([{ ended: 'failed' }]);
  });

  it('of nobody knows what size, which turns out larger than the cache, is streamed and not stored', async () => {
    await published({ compression: 'zstd', fileFields: false }, { contentLength: 'chunked' });
    await start(undefined, { settings: { maxSize: 2_000_000 } });
    expectWhole(await nar());
    await expectNothingStored();
  });

  it('gives the one who began it any range, and stores the whole where that one may leave', async () => {
    await published();
    await start();
    const one = await nar({ headers: { range: 'bytes=1000000-1000099' } });
    expect(one).toMatchObject({ status: 206, ended: 'clean' });
    expect(one.bytes.equals(path.body.subarray(1_000_000, 1_000_100))).toBe(true);
    await expectStored();
  });

  it('has one reader: others read the upstream themselves', async () => {
    await published();
    const go = Promise.withResolvers<void>();
    await start((taken) => (taken > 1_000_000 ? go.promise : undefined));
    const first = nar();
    await until(() => (seen.puts[0]?.taken ?? 0) > 900_000);
    const second = await nar();
    expectWhole(second);
    expect(second.headers['cache-control']).toBe('no-store');
    go.resolve();
    expectWhole(await first);
    expect(upstream.requestsTo(`/${path.url}`, 'GET')).toHaveLength(2);
    expect(seen.puts).toHaveLength(1);
    await expectStored();
  });
});

describe('law 2: the first answer wins', () => {
  it('also where another instance stored the body while it came in', async () => {
    await published();
    let once = true;
    await start(async (taken) => {
      if (taken < 1_000_000 || !once) return;
      once = false;
      await snowcap.drivers.storage.put(key, { kind: 'bytes', bytes: path.body });
    });
    expectWhole(await nar());
    await expectStored();
  });
});

describe('law 7: a body without a spool is held by nobody', () => {
  /** Pieces on their way: held back, joined, handed over; and what a reader has. */
  const MOST = 2 * HOLD_BACK_BYTES + 5 * CHUNK;

  it('where the store is slower than the client', async () => {
    await published({ size: 6_000_000 });
    let ahead = 0;
    await start(async (taken) => {
      ahead = Math.max(ahead, pulled - taken);
      await new Promise((resolve) => setTimeout(resolve, 1));
    });
    expectWhole(await nar());
    await expectStored();
    expect(ahead).toBeLessThanOrEqual(MOST);
    expect(snowcap.peak('snowcap_buffer_bytes')).toBeLessThanOrEqual(PUT_MEMORY + MOST + CHUNK);
  });

  it('where the client is slower than the store', async () => {
    await published({ size: 6_000_000 });
    await start();
    const answer = await snowcap.cache.getNar({ key, query: '' });
    if (answer.kind !== 'body' || answer.body.kind !== 'stream') throw new Error('There is a body');
    let [read, ahead] = [0, 0];
    for await (const chunk of answer.body.stream) {
      read += chunk.length;
      await new Promise((resolve) => setTimeout(resolve, 1));
      ahead = Math.max(ahead, pulled - read);
    }
    expect(read).toBe(path.body.length);
    expect(ahead).toBeLessThanOrEqual(MOST);
    await expectStored();
  });

  it('and takes the memory of its put from the budget, or passes unsaved', async () => {
    await published();
    await start(undefined, { settings: { bufferLimit: PUT_MEMORY }, ...shortLived(true) });
    expectWhole(await nar());
    await expectNothingStored();
    expect(seen.puts).toEqual([]);
    expect(jobs).toEqual([{ kind: 'fill', key }]);
    // No answer of the upstream was thrown away for want of room.
    expect(upstream.requestsTo(`/${path.url}`, 'GET')).toHaveLength(1);
  });

  it('asks the store for nothing, and keeps none of its memory, before there is a body', async () => {
    await published({}, { status: 500 });
    await start();
    expect((await nar()).status).toBe(502);
    await expectNothingStored();
    expect(seen.puts).toEqual([]);
    expect(snowcap.peak('snowcap_buffer_bytes')).toBeGreaterThanOrEqual(PUT_MEMORY);
    expect(snowcap.metric('snowcap_buffer_bytes')).toBe(0);
  });
});

describe('law 6: a store at fault in the middle of a body', () => {
  it('that fails costs the client nothing, and nothing is stored', async () => {
    await published();
    await start((taken) => {
      if (taken > 1_000_000) throw new StorageError('the store is gone');
    });
    expectWhole(await nar());
    await expectNothingStored();
    expect(snowcap.metric('snowcap_background_failures_total', { what: 'commit' })).toBe(1);
  });

  it('that fails at once, or at the end, neither', async () => {
    await published();
    for (const at of ['once', 'end'] as const) {
      await start(undefined, {
        replace: ({ storage }) => ({
          storage: withMethods(storage, {
            putMemory: PUT_MEMORY,
            async put(name, source) {
              if (at === 'end' && source.kind === 'stream') for await (const _ of source.stream);
              throw new StorageError(`cannot put ${name}`);
            },
          }),
        }),
      });
      expectWhole(await nar());
      await expectNothingStored();
      if (at === 'once') await snowcap.close();
    }
  });

  it('that stands still is given up after a while', async () => {
    await published();
    await start((taken) => (taken > 1_000_000 ? never() : undefined), {
      clock: shiftedClock((milliseconds) => milliseconds === 60_000 || milliseconds === 20_000),
    });
    expectWhole(await nar());
    expect(await snowcap.services.storage.head(key)).toBeNull();
    expect(
      snowcap.logs.filter(({ message }) => message === 'A verified body could not be stored'),
    ).toHaveLength(1);
  });

  it('is not worth a download that nobody reads', async () => {
    await published({}, { bytesPerSecond: 6_000_000 });
    const left = Promise.withResolvers<void>();
    await start(async (taken) => {
      if (taken < 1_000_000) return;
      await left.promise;
      throw new StorageError('the store is gone');
    });
    expect((await nar({ leaveAfter: 500_000 })).ended).toBe('broken');
    left.resolve();
    await expectNothingStored();
    await until(() => upstream.requestsTo(`/${path.url}`).every(({ state }) => state !== 'open'));
    expect(pulled).toBeLessThan(path.body.length);
  });
});

describe('a client that leaves a body without a spool', () => {
  it('does not stop it in a process that lives on', async () => {
    await published({}, { bytesPerSecond: 8_000_000 });
    await start();
    expect((await nar({ leaveAfter: 500_000 })).ended).toBe('broken');
    await expectStored();
  });

  it.each([true, false])(
    'stops it elsewhere, and a job is scheduled where there are any: %s',
    async (some) => {
      await published({}, { bytesPerSecond: 8_000_000 });
      await start(undefined, shortLived(some));
      expect((await nar({ leaveAfter: 500_000 })).ended).toBe('broken');
      await expectNothingStored();
      expect(seen.puts).toMatchObject([{ ended: 'failed' }]);
      expect(pulled).toBeLessThan(path.body.length);
      await until(() => jobs.length === (some ? 1 : 0));
      expect(jobs).toEqual(some ? [{ kind: 'fill', key }] : []);
      // Once, for a while.
      expect((await nar({ leaveAfter: 500_000 })).ended).toBe('broken');
      await snowcap.settled();
      expect(jobs).toHaveLength(some ? 1 : 0);
    },
  );

  it('keeps its runtime until the store has removed what it had taken', async () => {
    await published({}, { bytesPerSecond: 8_000_000 });
    const deferred: Promise<unknown>[] = [];
    let removed = false;
    await start(undefined, {
      replace: (services) => ({
        platform: {
          ...services.platform,
          defer(what, work) {
            deferred.push(work);
            services.platform.defer(what, work);
          },
        },
        // As a store does that has to abort an upload.
        storage: withMethods(services.storage, {
          putMemory: PUT_MEMORY,
          async put(name, source, options) {
            try {
              return await services.storage.put(name, source, options);
            } catch (error) {
              await new Promise((resolve) => setTimeout(resolve, 300));
              removed = true;
              throw error;
            }
          },
        }),
      }),
      ...shortLived(false),
    });
    expect((await nar({ leaveAfter: 500_000 })).ended).toBe('broken');
    await until(() => snowcap.metric('snowcap_fills_in_flight') === 0);
    for (let done = 0; done < deferred.length; done = deferred.length) await Promise.allSettled(deferred);
    expect(removed).toBe(true);
    await expectNothingStored();
  });

  it('before it has read anything leaves nothing behind', async () => {
    await published();
    await start(undefined, shortLived(false));
    const answer = await snowcap.cache.getNar({ key, query: '' });
    if (answer.kind === 'body' && answer.body.kind === 'stream') await leave(answer.body.stream);
    await expectNothingStored();
  });
});
