import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { Agent, get, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { servedKey } from '../support/replaced.ts';
import { publish, type SignedPath, signedPath, upstreamPublicKey } from '../support/signed-path.ts';
import { SnowcapProcess } from '../support/snowcap-process.ts';
import { until } from '../support/test-cache.ts';

let upstream: FaultServer;
let snowcap: SnowcapProcess;
let path: SignedPath;

beforeEach(async () => {
  upstream = await startFaultServer();
  path = await signedPath({ size: 2_000_000 });
});

afterEach(async () => {
  await snowcap.dispose();
  await upstream.close();
});

async function start(shutdownSeconds: number): Promise<void> {
  snowcap = await SnowcapProcess.start({
    upstreams: [upstream.url],
    trustedPublicKeys: [await upstreamPublicKey()],
    env: { SNOWCAP_SHUTDOWN_TIMEOUT: String(shutdownSeconds), SNOWCAP_UPSTREAM_IDLE_TIMEOUT: '120' },
  });
}

/** Files below the storage that are no whole object: `nar/` and what is being written. */
async function leftovers(): Promise<readonly string[]> {
  const entries = await readdir(snowcap.storage, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(snowcap.storage.length + 1))
    .filter((file) => file.startsWith('nar/') || (file.startsWith('.') && !file.endsWith('lock')));
}

describe('a shutdown', () => {
  it('lets a transfer under way end and its fill be stored; the next start serves it with the upstream down', async () => {
    await start(60);
    const go = Promise.withResolvers<void>();
    publish(upstream, path, { stallAt: 1_000_000, until: go.promise });
    const key = await servedKey(snowcap, path);
    const begun = Promise.withResolvers<void>();
    const transfer = download(`${snowcap.url}/${key}`, { onProgress: () => begun.resolve() });
    await begun.promise;
    const { url } = snowcap;
    const stopped = snowcap.stop();
    await until(() => snowcap.output.includes('shutting down'));
    await expect(fetch(`${url}/healthz`)).rejects.toThrow('fetch failed');
    go.resolve();
    const { ended, bytes } = await transfer;
    expect(ended).toBe('clean');
    expect(bytes.equals(path.body)).toBe(true);
    expect(await stopped).toEqual({ code: 0, signal: null });
    await upstream.down();
    await snowcap.restart();
    expect((await snowcap.get(`/${path.hash}.narinfo`)).status).toBe(200);
    expect((await download(`${snowcap.url}/${key}`)).bytes.equals(path.body)).toBe(true);
  });

  it('does not wait for a connection that is kept open after its transfer', async () => {
    await start(60);
    const go = Promise.withResolvers<void>();
    publish(upstream, path, { stallAt: 1_000_000, until: go.promise });
    const key = await servedKey(snowcap, path);
    const agent = new Agent({ keepAlive: true });
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      get(`${snowcap.url}/${key}`, { agent }, resolve).once('error', reject);
    });
    const hash = createHash('sha256');
    response.on('data', (chunk: Buffer) => hash.update(chunk));
    const ended = new Promise<void>((resolve) => response.once('end', resolve));
    const stopped = snowcap.stop();
    await until(() => snowcap.output.includes('shutting down'));
    const from = performance.now();
    go.resolve();
    await ended;
    expect(hash.digest('hex')).toBe(createHash('sha256').update(path.body).digest('hex'));
    expect(await stopped).toEqual({ code: 0, signal: null });
    expect(performance.now() - from).toBeLessThan(20_000);
    agent.destroy();
  });

  it('completes the fill of a client that has left', async () => {
    await start(60);
    const go = Promise.withResolvers<void>();
    publish(upstream, path, { stallAt: 1_000_000, until: go.promise });
    const key = await servedKey(snowcap, path);
    await download(`${snowcap.url}/${key}`, { leaveAfter: 100_000 });
    const stopped = snowcap.stop();
    await until(() => snowcap.output.includes('shutting down'));
    go.resolve();
    expect((await stopped).code).toBe(0);
    await upstream.down();
    await snowcap.restart();
    expect((await download(`${snowcap.url}/${key}`)).bytes.equals(path.body)).toBe(true);
  });

  it('past its time limit cuts the transfer, never ends it, and leaves nothing of the fill', async () => {
    await start(1);
    publish(upstream, path, { stallAt: 1_000_000 });
    const key = await servedKey(snowcap, path);
    const begun = Promise.withResolvers<void>();
    const transfer = download(`${snowcap.url}/${key}`, { onProgress: () => begun.resolve() });
    await begun.promise;
    const from = performance.now();
    const { code } = await snowcap.stop();
    const { ended, bytes } = await transfer;
    expect(ended).toBe('broken');
    expect(bytes.equals(path.body.subarray(0, bytes.length))).toBe(true);
    expect(bytes.length).toBeLessThanOrEqual(1_000_000);
    expect(code).toBe(0);
    expect(performance.now() - from).toBeLessThan(15_000);
    expect(await leftovers()).toEqual([]);

    publish(upstream, path);
    await snowcap.restart();
    const again = await download(`${snowcap.url}/${key}`);
    expect(again.ended).toBe('clean');
    expect(again.bytes.equals(path.body)).toBe(true);
  });

  it('past its time limit gives up on what upstreams have not answered', async () => {
    await start(1);
    upstream.route(/narinfo$/, { stallAt: 'headers' });
    const answer = fetch(`${snowcap.url}/${path.hash}.narinfo`).catch((error: unknown) => error);
    await until(() => upstream.requestsTo(/narinfo$/).length > 0);
    const from = performance.now();
    expect((await snowcap.stop()).code).toBe(0);
    expect(await answer).toBeInstanceOf(Error);
    expect(performance.now() - from).toBeLessThan(9_000);
  });

  it('in the middle of a verification in the background is quick, and the next start takes it up', async () => {
    path = await signedPath({ size: 12_000_000, compression: 'xz', prose: true });
    await start(60);
    publish(upstream, path);
    const key = await servedKey(snowcap, path);
    expect((await download(`${snowcap.url}/${key}`)).bytes.equals(path.body)).toBe(true);
    const from = performance.now();
    expect((await snowcap.stop()).code).toBe(0);
    expect(performance.now() - from).toBeLessThan(20_000);
    await upstream.down();
    await snowcap.restart({ env: { SNOWCAP_SHUTDOWN_TIMEOUT: '60' } });
    expect((await download(`${snowcap.url}/${key}`)).bytes.equals(path.body)).toBe(true);
  });
});
