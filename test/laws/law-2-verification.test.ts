import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { publish, signedPath, withOtherBody } from '../support/signed-path.ts';
import { startTestCache, type TestCache, until } from '../support/test-cache.ts';
import { UPSTREAM_COMPRESSIONS } from '../support/upstream-cache.ts';

let first: FaultServer;
let second: FaultServer;
let snowcap: TestCache;

beforeEach(async () => {
  first = await startFaultServer();
  second = await startFaultServer();
});

afterEach(async () => {
  await snowcap.close();
  await first.close();
  await second.close();
});

async function start(options: Parameters<typeof startTestCache>[0] = {}): Promise<void> {
  snowcap = await startTestCache({
    upstreams: [`${first.url}?priority=10`, `${second.url}?priority=20`],
    upstreamSettings: { hedgeMs: 1000 },
    storage: 'file',
    ...options,
  });
}

async function stored(): Promise<readonly string[]> {
  const keys: string[] = [];
  for await (const { key } of snowcap.services.storage.list('')) keys.push(key);
  return keys;
}

async function stateOf(key: string): Promise<string | undefined> {
  return (await snowcap.services.metadata.getNar(key))?.nar.state;
}

describe('law 2: a body whose FileHash is right and whose NarHash is not', () => {
  it.each(['none', 'zstd', 'br', 'gzip'] as const)(
    'is refused at once where it is encoded as %s',
    async (compression) => {
      await start();
      const wrong = await withOtherBody({ compression, size: 200_000 });
      publish(first, wrong);
      await snowcap.get(`/${wrong.hash}.narinfo`);
      const seen = await download(`${snowcap.url}/${wrong.url}`);
      expect(seen.status === 200 ? seen.ended : seen.status).toBeOneOf(['broken', 502]);
      await snowcap.settled();
      expect(await stored()).toEqual([]);
      expect(await stateOf(wrong.url)).toBe('known');
      expect(snowcap.metric('snowcap_verification_failures_total', { reason: 'nar-hash' })).toBe(1);
    },
  );

  it.each(['xz', 'bzip2'] as const)(
    'is found in the background and removed where it is encoded as %s',
    async (compression) => {
      await start();
      const wrong = await withOtherBody({ compression, size: 200_000 });
      publish(first, wrong);
      await snowcap.get(`/${wrong.hash}.narinfo`);
      await download(`${snowcap.url}/${wrong.url}`);
      await until(async () => (await stateOf(wrong.url)) === 'quarantined');
      await until(async () => (await stored()).length === 0);
      expect((await download(`${snowcap.url}/${wrong.url}`)).status).toBe(404);
      expect((await download(`${snowcap.url}/${wrong.hash}.narinfo`)).status).toBe(404);
      expect(first.requestsTo(`/${wrong.url}`)).toHaveLength(1);
      expect(snowcap.metric('snowcap_verification_failures_total', { reason: 'nar-hash' })).toBe(1);
    },
  );

  it.each(['xz', 'bzip2'] as const)(
    'of encoding %s is answered anew from another upstream that is right',
    async (compression) => {
      await start({ settings: { narInfoTtlMs: 60_000, negativeTtlMs: 60_000 } });
      const wrong = await withOtherBody({ compression, size: 200_000 });
      const right = await signedPath({ compression, size: 200_000 });
      publish(first, wrong);
      publish(second, right);
      await snowcap.get(`/${wrong.hash}.narinfo`);
      await download(`${snowcap.url}/${wrong.url}`);
      await until(async () => (await stateOf(wrong.url)) === 'quarantined');
      await until(async () => (await stored()).length === 0);

      const info = await (await snowcap.get(`/${wrong.hash}.narinfo`)).text();
      expect(info).toContain(`URL: ${right.url}\n`);
      const seen = await download(`${snowcap.url}/${right.url}`);
      expect(seen).toMatchObject({ status: 200, ended: 'clean' });
      expect(seen.bytes.equals(right.body)).toBe(true);
      await until(async () => (await stored()).length === 2);
      expect(await stored()).toEqual([`${right.hash}.narinfo`, right.url]);
    },
  );

  it('of a quick encoding is fetched from another upstream of the same encoding by the next request', async () => {
    await start();
    const wrong = await withOtherBody({
      compression: 'zstd',
      size: 200_000,
      url: () => 'nar/opaque',
      fileFields: false,
    });
    const right = await signedPath({
      compression: 'zstd',
      size: 200_000,
      url: () => 'nar/opaque',
      fileFields: false,
    });
    publish(first, wrong);
    publish(second, right);
    const info = await (await snowcap.get(`/${right.hash}.narinfo`)).text();
    const key = /^URL: (.*)$/m.exec(info)?.[1] ?? '';
    const refused = await download(`${snowcap.url}/${key}`);
    expect(refused.status === 200 ? refused.ended : refused.status).toBeOneOf(['broken', 502]);
    await snowcap.settled();
    const seen = await download(`${snowcap.url}/${key}`);
    expect(seen).toMatchObject({ status: 200, ended: 'clean' });
    expect(seen.bytes.equals(right.body)).toBe(true);
  });

  it.each(['xz', 'bzip2'] as const)(
    'of encoding %s without FileHash is refused at once: nothing else would tell',
    async (compression) => {
      await start();
      const wrong = await withOtherBody({
        compression,
        size: 200_000,
        url: () => 'nar/opaque',
        fileFields: false,
      });
      publish(first, wrong);
      const info = await (await snowcap.get(`/${wrong.hash}.narinfo`)).text();
      const seen = await download(`${snowcap.url}/${/^URL: (.*)$/m.exec(info)?.[1] ?? ''}`);
      expect(seen.status === 200 ? seen.ended : seen.status).toBeOneOf(['broken', 502]);
      await snowcap.settled();
      expect(await stored()).toEqual([]);
    },
  );
});

describe('law 2: before a body was verified', () => {
  it.each(UPSTREAM_COMPRESSIONS)(
    'nothing of it is in storage or present, with encoding %s',
    async (compression) => {
      const end = Promise.withResolvers<void>();
      await start({ upstreamSettings: { hedgeMs: 1000, idleTimeoutMs: 10_000 } });
      const path = await signedPath({ compression, size: 300_000 });
      publish(first, path, { stallAt: path.body.length - 1, until: end.promise });
      const info = await (await snowcap.get(`/${path.hash}.narinfo`)).text();
      expect(info).toContain(`NarHash: ${path.narHash}\n`);
      let read = 0;
      const client = download(`${snowcap.url}/${path.url}`, { onProgress: (bytes) => (read = bytes) });
      await until(() => read === path.body.length - 64 * 1024);
      expect(await stored()).toEqual([]);
      expect(await stateOf(path.url)).toBe('known');
      expect(await snowcap.services.metadata.totals()).toEqual({ presentBytes: 0, presentNars: 0 });
      end.resolve();
      expect((await client).bytes.equals(path.body)).toBe(true);
      await until(async () => (await stateOf(path.url)) === 'present');
      expect(await stored()).toEqual([`${path.hash}.narinfo`, path.url]);
      const verified = async (): Promise<string | undefined> =>
        (await snowcap.services.metadata.getNar(path.url))?.nar.verification;
      await until(async () => (await verified()) === 'nar');
    },
  );

  it('with SNOWCAP_VERIFY=file a body is believed by its FileHash, and its record says so', async () => {
    await start({ settings: { verify: 'file' } });
    const wrong = await withOtherBody({ compression: 'xz', size: 100_000 });
    publish(first, wrong);
    await snowcap.get(`/${wrong.hash}.narinfo`);
    expect((await download(`${snowcap.url}/${wrong.url}`)).bytes.equals(wrong.body)).toBe(true);
    await snowcap.settled();
    expect((await snowcap.services.metadata.getNar(wrong.url))?.nar.verification).toBe('file');
  });
});
