import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { HOLD_BACK_BYTES } from '../../src/cache/fill/flight.ts';
import { type Download, download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { publish, type SignedPath, signedPath } from '../support/signed-path.ts';
import { openDescriptors, startTestCache, type TestCache, until } from '../support/test-cache.ts';

let upstream: FaultServer;
let snowcap: TestCache;
let path: SignedPath;

beforeEach(async () => {
  upstream = await startFaultServer();
  path = await signedPath({ size: 2_000_000 });
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

/** Starts a Snowcap that knows the path already. */
async function start(options: Parameters<typeof startTestCache>[0] = {}): Promise<void> {
  snowcap = await startTestCache({ upstreams: [upstream.url], storage: 'file', ...options });
  publish(upstream, path);
  await snowcap.get(`/${path.hash}.narinfo`);
}

function nar(options: Parameters<typeof download>[1] = {}): Promise<Download> {
  return download(`${snowcap.url}/${path.url}`, options);
}

function expectWhole(seen: Download): void {
  expect(seen).toMatchObject({ status: 200, ended: 'clean' });
  expect(seen.bytes.equals(path.body)).toBe(true);
  expect(seen.headers['content-length']).toBe(String(path.body.length));
}

describe('law 1: followers', () => {
  it('of one cold body, 64 at once, cost one upstream request, and each gets every byte', async () => {
    await start();
    publish(upstream, path, { bytesPerSecond: 8_000_000 });
    const seen = await Promise.all(Array.from({ length: 64 }, () => nar()));
    seen.forEach(expectWhole);
    expect(upstream.requestsTo(`/${path.url}`)).toHaveLength(1);
    await snowcap.settled();
    expect(snowcap.operations['storage.put']).toBe(2);
    expect(await snowcap.spooled()).toEqual([]);
  });

  it('that come at any time get every byte, and the first of it before the upstream has sent the last', async () => {
    await start();
    const end = Promise.withResolvers<void>();
    publish(upstream, path, { stallAt: 1_900_000, until: end.promise });
    const firstBytes: number[] = [];
    const seen: Promise<Download>[] = [];
    for (let client = 0; client < 8; client++) {
      const arrived = Promise.withResolvers<void>();
      seen.push(
        nar({
          onProgress: (bytes) => {
            firstBytes.push(bytes);
            arrived.resolve();
          },
        }),
      );
      await arrived.promise;
    }
    expect(Math.max(...firstBytes)).toBeLessThanOrEqual(path.body.length - HOLD_BACK_BYTES);
    end.resolve();
    (await Promise.all(seen)).forEach(expectWhole);
    expect(upstream.requestsTo(`/${path.url}`)).toHaveLength(1);
  });

  it('that come in the very last moment, after the verification and before the commit is over, get every byte', async () => {
    const late: Promise<Download>[] = [];
    await start({
      checkpoint: (step) => {
        if (/^(fill:|file-store:|index\.markPresent|spool:discard)/.test(step)) late.push(nar());
      },
    });
    publish(upstream, path);
    late.length = 0;
    expectWhole(await nar());
    await until(() => late.length >= 8);
    (await Promise.all(late)).forEach(expectWhole);
    expect(upstream.requestsTo(`/${path.url}`)).toHaveLength(1);
    await snowcap.settled();
    // The spool is free only now, which is one more of the moments.
    (await Promise.all(late)).forEach(expectWhole);
  });

  it('never get the last piece before the whole is verified', async () => {
    await start();
    const end = Promise.withResolvers<void>();
    publish(upstream, path, { stallAt: path.body.length - 1, until: end.promise });
    let most = 0;
    const leader = nar({ onProgress: (bytes) => (most = Math.max(most, bytes)) });
    const follower = nar({ onProgress: (bytes) => (most = Math.max(most, bytes)) });
    await until(() => most === path.body.length - HOLD_BACK_BYTES);
    // Room for a byte too many to show up.
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(most).toBe(path.body.length - HOLD_BACK_BYTES);
    end.resolve();
    expectWhole(await leader);
    expectWhole(await follower);
  });
});

describe('law 1: clients', () => {
  it('that leave in the middle stop neither the fill nor the others, and leave nothing behind', async () => {
    await start();
    // Warms up what the process opens once.
    const before = await openDescriptors();
    const end = Promise.withResolvers<void>();
    publish(upstream, path, { stallAt: 1_500_000, until: end.promise });
    const left = await Promise.all([1, 2, 3].map((part) => nar({ leaveAfter: part * 200_000 })));
    left.forEach((seen) => expect(seen.ended).toBe('broken'));
    expect(snowcap.metric('snowcap_fills_in_flight')).toBe(1);
    end.resolve();
    await snowcap.settled();
    expectWhole(await nar());
    expect(snowcap.logs.filter(({ fields }) => fields['outcome'] === 'client-left')).toHaveLength(3);
    expect(upstream.requestsTo(`/${path.url}`)).toHaveLength(1);
    expect(await snowcap.spooled()).toEqual([]);
    await until(
      async () => (await openDescriptors()) <= before + 2,
      () => 'descriptors are left open',
    );
  });

  it('that leave before the first byte of a fill leave nothing behind', async () => {
    await start();
    const end = Promise.withResolvers<void>();
    publish(upstream, path, { stallAt: 'headers', until: end.promise });
    const gone = new AbortController();
    const asked = fetch(`${snowcap.url}/${path.url}`, { signal: gone.signal }).catch(() => 'gone');
    await until(() => upstream.requestsTo(`/${path.url}`).length === 1);
    gone.abort();
    expect(await asked).toBe('gone');
    end.resolve();
    await snowcap.settled();
    expectWhole(await nar());
    expect(upstream.requestsTo(`/${path.url}`)).toHaveLength(1);
  });

  it('that are slow do not slow the others', async () => {
    await start();
    publish(upstream, path);
    let slowly = 0;
    const slow = nar({ bytesPerSecond: 1_500_000, onProgress: (bytes) => (slowly = bytes) });
    await until(() => slowly > 0);
    const begun = performance.now();
    expectWhole(await nar());
    expect(performance.now() - begun).toBeLessThan(800);
    expect(slowly).toBeLessThan(path.body.length);
    expectWhole(await slow);
    await snowcap.settled();
  });
});
