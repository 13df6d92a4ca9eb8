import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { publish, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache, until } from '../support/test-cache.ts';

let upstream: FaultServer;
let snowcap: TestCache;

beforeEach(async () => {
  upstream = await startFaultServer();
  // No memory of small bodies: what is gone from storage shall be seen at once.
  snowcap = await startTestCache({
    upstreams: [upstream.url],
    storage: 'file',
    settings: { narInfoTtlMs: 0 },
  });
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

/** A path that was stored, and whose NAR somebody then removed by hand. */
async function storedAndLost(): Promise<{
  readonly hash: string;
  readonly url: string;
  readonly bytes: Buffer;
}> {
  const path = await signedPath({ compression: 'zstd', size: 50_000 });
  publish(upstream, path);
  await snowcap.get(`/${path.hash}.narinfo`);
  const { bytes } = await download(`${snowcap.url}/${path.url}`);
  await snowcap.settled();
  await until(async () => (await stateOf(path.url)) === 'present');
  await snowcap.services.storage.delete([path.url]);
  return { hash: path.hash, url: path.url, bytes };
}

async function stateOf(key: string): Promise<string | undefined> {
  return (await snowcap.services.metadata.getNar(key))?.nar.state;
}

describe('law 8: a narinfo is in the bucket only while its NAR is', () => {
  it('leaves the bucket when its NAR is found gone and no upstream has it any more', async () => {
    const { hash, url } = await storedAndLost();
    upstream.reset();
    const answer = await snowcap.get(`/${url}`);
    expect(answer.status).toBe(404);
    expect(await stateOf(url)).toBe('absent');
    expect(await snowcap.services.storage.head(`${hash}.narinfo`)).toBeNull();
    expect(await snowcap.services.metadata.totals()).toEqual({ presentBytes: 0, presentNars: 0 });
  });

  it('comes back with its NAR where an upstream still has it', async () => {
    const { hash, url, bytes } = await storedAndLost();
    const again = await download(`${snowcap.url}/${url}`);
    expect(again.bytes.equals(bytes)).toBe(true);
    await snowcap.settled();
    await until(async () => (await stateOf(url)) === 'present');
    expect(await snowcap.services.storage.head(`${hash}.narinfo`)).not.toBeNull();
    expect(await snowcap.services.metadata.totals()).toEqual({ presentBytes: bytes.length, presentNars: 1 });
  });
});
