import { open, rm, stat, writeFile } from 'node:fs/promises';
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
let paths: readonly SignedPath[];
const keys = new Map<SignedPath, string>();

beforeEach(async () => {
  upstream = await startFaultServer();
  snowcap = await SnowcapProcess.start({
    upstreams: [upstream.url],
    trustedPublicKeys: [await upstreamPublicKey()],
    env: { SNOWCAP_NAR_INFO_TTL: '0' },
  });
  paths = await Promise.all(
    [...Array(40).keys()].map((n) =>
      signedPath({ name: `path-${n}`, seed: n + 1, size: n === 0 ? 700_000 : 10_000, compression: 'zstd' }),
    ),
  );
  for (const path of paths) {
    publish(upstream, path);
    const key = await servedKey(snowcap, path);
    keys.set(path, key);
    await download(`${snowcap.url}/${key}`);
  }
  await until(async () => (await metric('snowcap_fills_in_flight')) === 0);
  await upstream.down();
});

afterEach(async () => {
  await snowcap.dispose();
  await upstream.close();
});

async function metric(name: string): Promise<number> {
  const text = await (await snowcap.get('/metrics')).text();
  return Number(new RegExp(`^${name}(?:\\{\\})? (\\S+)$`, 'm').exec(text)?.[1] ?? Number.NaN);
}

async function expectNars(): Promise<void> {
  for (const path of paths) {
    const url = `${snowcap.url}/${keys.get(path)}`;
    const { status, ended, bytes } = await download(url);
    expect({ status, ended }).toEqual({ status: 200, ended: 'clean' });
    expect(bytes.equals(path.body)).toBe(true);
    const part = await download(url, { headers: { range: 'bytes=10-99' } });
    expect(part.status).toBe(206);
    expect(part.bytes.equals(path.body.subarray(10, 100))).toBe(true);
    expect((await download(url, { method: 'HEAD' })).status).toBe(200);
  }
}

async function expectNarInfos(): Promise<void> {
  for (const path of paths) {
    const answer = await snowcap.get(`/${path.hash}.narinfo`);
    expect(answer.status).toBe(200);
    expect(await answer.text()).toContain(`URL: ${keys.get(path)}\n`);
  }
}

/** Writes over the file where it lies, from the first to the last byte, while the process has it open. */
async function scribble(name: string): Promise<void> {
  const place = join(snowcap.directory, name);
  const { size } = await stat(place);
  const file = await open(place, 'r+');
  await file.write(Buffer.alloc(size, 'garbage '), 0, size, 0);
  await file.close();
}

describe('law 6: a process with every upstream down from its start', () => {
  it('starts, says so, and serves all that is stored', async () => {
    await snowcap.restart();
    await expectNarInfos();
    await expectNars();
    expect((await snowcap.get('/readyz')).status).toBe(200);
    const missing = await snowcap.get(`/${'0'.repeat(32)}.narinfo`);
    expect(missing.status).toBe(502);
    for (let attempt = 0; attempt < 3; attempt += 1) await snowcap.get(`/${'0'.repeat(32)}.narinfo`);
    const state = await (await snowcap.get('/readyz')).text();
    expect(state).toMatch(/"ready": true,/);
    for (const name of ['storage', 'index', 'locks']) {
      expect(state).toMatch(
        new RegExp(`"name": "${name}",\\s+"description": ".*",\\s+"ok": true,\\s+"problem": null`),
      );
    }
    const dead = `"name": "upstream",\\s+"description": "${upstream.url}",\\s+"ok": false,\\s+"problem": ".*ECONNREFUSED`;
    expect(state).toMatch(new RegExp(dead));
  });

  it('serves it also while its index is overwritten with garbage', async () => {
    await snowcap.restart();
    await scribble('index.db');
    await scribble('index.db-wal').catch(() => undefined);
    await expectNars();
    await expectNarInfos();
    await expectNars();
    expect((await snowcap.get('/healthz')).status).toBe(200);
    // An index that cannot be read any more is a fault for what is not stored, never a miss.
    expect((await snowcap.get(`/${'0'.repeat(32)}.narinfo`)).status).toBe(502);
    expect((await snowcap.get(`/nar/${'1'.repeat(52)}.nar.xz`)).status).toBe(502);
    await snowcap.stop();

    // It does not start over such an index, and says what to do; with a new one the bodies are still there.
    await expect(SnowcapProcess.start({ directory: snowcap.directory })).rejects.toThrow(
      /index\.db.*(damaged|not an SQLite database).*move/s,
    );
    for (const end of ['', '-wal', '-shm'])
      await rm(join(snowcap.directory, `index.db${end}`), { force: true });
    await snowcap.restart();
    await expectNars();
    expect((await snowcap.get(`/${paths[0]?.hash}.narinfo`)).status).toBe(502);
    await upstream.up();
    await until(
      async () => (await snowcap.get(`/${paths[0]?.hash}.narinfo`)).status === 200,
      undefined,
      60_000,
    );
    await expectNarInfos();
  });

  it('serves it while the index is locked by somebody else, and its file replaced', async () => {
    await snowcap.restart();
    await writeFile(join(snowcap.directory, 'other.db'), 'garbage');
    await rm(join(snowcap.directory, 'index.db'));
    await writeFile(join(snowcap.directory, 'index.db'), 'garbage');
    await expectNarInfos();
    await expectNars();
    await snowcap.stop();
    for (const end of ['', '-wal', '-shm'])
      await rm(join(snowcap.directory, `index.db${end}`), { force: true });
  });
});
