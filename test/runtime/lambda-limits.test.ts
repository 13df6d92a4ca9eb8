import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { encodeNix32 } from '../../src/nix/base32.ts';
import { fingerprint, formatNarInfo } from '../../src/nix/nar-info.ts';
import { createSigner } from '../../src/nix/signing-key.ts';
import { MOST_BODY_BYTES } from '../../src/runtime/lambda/buffered-answer.ts';
import { READ_AHEAD_BYTES } from '../../src/runtime/lambda/streamed-answer.ts';
import { download } from '../support/download.ts';
import { startFaultServer } from '../support/fault-server.ts';
import type { FaultServer } from '../support/fault-server.ts';
import { LAMBDA_SET_UPS } from '../support/lambda-runtime.ts';
import type { LambdaOptions, LambdaSetUp } from '../support/lambda-runtime.ts';
import { startOtlpCollector } from '../support/otlp-collector.ts';
import { noise, publish, signedPath, upstreamKey, upstreamPublicKey } from '../support/signed-path.ts';
import type { SignedPath } from '../support/signed-path.ts';
import { startLambda } from './lambda-site.ts';
import type { RunningLambda } from './lambda-site.ts';
import { fetchFollowing } from './site.ts';

const MIB = 2 ** 20;
const URL_SET_UP = 'function URL, RESPONSE_STREAM';
const API_SET_UP = 'HTTP API (API Gateway v2)';

let upstream: FaultServer;
let lambda: RunningLambda | undefined;

beforeEach(async () => {
  upstream = await startFaultServer();
});

afterEach(async () => {
  await lambda?.stop();
  lambda = undefined;
  await upstream.close();
});

async function start(
  setUp: LambdaSetUp,
  options: Partial<LambdaOptions> = {},
  env: Readonly<Record<string, string>> = {},
): Promise<RunningLambda> {
  lambda = await startLambda(
    {
      upstreams: [upstream.url],
      trustedPublicKeys: [await upstreamPublicKey()],
      delivery: 'proxy',
      env,
    },
    { setUp, concurrency: 1, ...options },
  );
  return lambda;
}

async function published(size: number): Promise<SignedPath> {
  const path = await signedPath({ size });
  publish(upstream, path);
  return path;
}

/** A NAR too large for memory, of blocks that are all the same. */
async function publishGenerated(blocks: number): Promise<{ readonly url: string; readonly size: number }> {
  const piece = Buffer.from(noise(MIB, 1));
  const generate = function* (): Generator<Uint8Array> {
    for (let at = 0; at < blocks; at += 1) yield piece;
  };
  const hash = createHash('sha256');
  for (const chunk of generate()) hash.update(chunk);
  const digest = encodeNix32(hash.digest());
  const size = blocks * MIB;
  const { storePath, hash: storeHash } = await signedPath({ name: 'generated' });
  const facts = { storePath, narHash: `sha256:${digest}`, narSize: size, references: [] };
  const signature = await (await createSigner(await upstreamKey())).sign(fingerprint(facts));
  const url = `nar/${digest}.nar`;
  const body = {
    ...facts,
    url,
    compression: 'none',
    fileHash: facts.narHash,
    fileSize: size,
    deriver: null,
    signatures: [signature],
    ca: null,
    extra: [],
  };
  upstream.route(`/${storeHash}.narinfo`, { body: formatNarInfo(body) });
  upstream.route(`/${url}`, { body: { size, generate } });
  return { url: `/${url}`, size };
}

describe('the ways to a function', () => {
  it.each(Object.entries(LAMBDA_SET_UPS))(
    '%s: streams or does not, as documented',
    async (name, { streams }) => {
      const { url } = await start(name === API_SET_UP ? API_SET_UP : URL_SET_UP);
      // More than is read before the head goes out, and less than is buffered.
      const path = await published(streams ? READ_AHEAD_BYTES + 6 * MIB : 4 * MIB);
      const held = Promise.withResolvers<void>();
      publish(upstream, path, { stallAt: path.body.length - MIB, until: held.promise });
      let early = true;
      const answer = download(`${url}/${path.url}`, {
        onProgress: () => {
          if (early) held.resolve();
        },
      });
      if (!streams) {
        const first = await Promise.race([answer, new Promise((resolve) => setTimeout(resolve, 1500, null))]);
        expect(first).toBeNull();
        early = false;
        held.resolve();
      }
      const { status, ended, bytes } = await answer;
      expect({ status, ended }).toEqual({ status: 200, ended: 'clean' });
      expect(bytes.equals(path.body)).toBe(true);
    },
  );

  it('gives the largest body that API Gateway takes, and 501 in place of a larger one', async () => {
    const { url } = await start(API_SET_UP);
    const fits = await published(MOST_BODY_BYTES - 112);
    expect(fits.body.length).toBe(MOST_BODY_BYTES);
    expect(await fetchFollowing(`${url}/${fits.url}`)).toMatchObject({ status: 200, size: MOST_BODY_BYTES });

    const larger = await signedPath({ name: 'larger', size: MOST_BODY_BYTES });
    publish(upstream, larger);
    const answer = await download(`${url}/${larger.url}`);
    expect(answer).toMatchObject({ status: 501, ended: 'clean' });
    expect(answer.headers['cache-control']).toBe('no-store');
    expect(answer.bytes.toString()).toMatch(/^body_too_large: .* \(request [0-9a-f-]+\)\n$/);
    // What fits into one answer can be had all the same.
    const part = await download(`${url}/${larger.url}`, { headers: { Range: 'bytes=1000000-1999999' } });
    expect(part.status).toBe(206);
    expect(part.bytes.equals(larger.body.subarray(1_000_000, 2_000_000))).toBe(true);
  });

  it('breaks off after the 200 MB that Lambda streams, and the client goes on with a range', async () => {
    const { url } = await start(URL_SET_UP, { brokenStreams: 'break' });
    const nar = await publishGenerated(201);
    const whole = await fetchFollowing(`${url}${nar.url}`);
    expect(whole).toMatchObject({ status: 200, ended: 'broken', size: 200 * MIB });
    const rest = await fetchFollowing(`${url}${nar.url}`, { headers: { Range: `bytes=${whole.size}-` } });
    expect(rest).toMatchObject({ status: 206, ended: 'clean', size: MIB });
  });

  it('takes from the function no more than a slow client takes', async () => {
    const { url, service } = await start(URL_SET_UP, { bytesPerSecond: 40 * MIB });
    const nar = await publishGenerated(80);
    const answer = await fetchFollowing(`${url}${nar.url}`);
    expect(answer).toMatchObject({ status: 200, ended: 'clean', size: nar.size });
    const [environment] = service.environments;
    expect(await environment?.peakRss()).toBeLessThan(260e6);
  });
});

describe('law 1 on Lambda', () => {
  it('gives a status in place of a body of up to 6 MB that breaks', async () => {
    const { url } = await start(URL_SET_UP);
    const path = await published(5 * MIB);
    publish(upstream, path, { flipBitAt: 4 * MIB, ranges: false });
    const answer = await download(`${url}/${path.url}`);
    expect(answer).toMatchObject({ status: 502, ended: 'clean' });
    expect(answer.bytes.toString()).toMatch(/^broken_body: .* \(request [0-9a-f-]+\)\n$/);
  });

  it('reports an error with a longer body that breaks, and holds its end back', async () => {
    const { url, service } = await start(URL_SET_UP, { brokenStreams: 'break' });
    const path = await published(8 * MIB);
    publish(upstream, path, { flipBitAt: 7 * MIB, ranges: false });
    const answer = await download(`${url}/${path.url}`);
    expect(answer).toMatchObject({ status: 200, ended: 'broken' });
    expect(answer.bytes.length).toBeLessThan(path.body.length);
    expect(service.output).toContain('Invoke Error');
    // The environment goes on.
    publish(upstream, path);
    expect(await fetchFollowing(`${url}/${path.url}`)).toMatchObject({ status: 200, size: path.body.length });
    expect(service.environments.length).toBe(1);
  });
});

describe('an environment between invocations', () => {
  it('stands still, and has nothing left to do', async () => {
    const { url, service, storage } = await start(URL_SET_UP);
    const path = await published(100_000);
    await download(`${url}/${path.hash}.narinfo`);
    await download(`${url}/${path.url}`);
    await service.settled();
    const [environment] = service.environments;
    expect(await environment?.isFrozen()).toBe(true);
    expect((await readFile(join(storage, path.url))).equals(path.body)).toBe(true);
    expect(await readFile(join(storage, `${path.hash}.narinfo`), 'utf8')).toContain(path.storePath);
  });

  it('has sent its spans', async () => {
    const collector = await startOtlpCollector();
    try {
      const { url, service } = await start(URL_SET_UP, {}, { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url });
      const path = await published(1000);
      for (const route of [`${path.hash}.narinfo`, path.url]) {
        const posted = collector.posts.length;
        expect((await download(`${url}/${route}`)).status).toBe(200);
        await service.settled();
        expect(collector.posts.length).toBeGreaterThan(posted);
      }
      const requests = collector.spans.filter(({ kind }) => kind === 'server');
      expect(requests.length).toBe(2);
      expect(collector.spans.some(({ parentSpanId }) => parentSpanId === requests[1]?.spanId)).toBe(true);
    } finally {
      await collector.close();
    }
  });

  it('does with connections that were closed meanwhile', async () => {
    const { url, service } = await start(URL_SET_UP);
    const [first, second] = [await published(1000), await signedPath({ name: 'second' })];
    expect((await download(`${url}/${first.hash}.narinfo`)).status).toBe(200);
    await service.settled();
    await upstream.down();
    await upstream.up();
    publish(upstream, second);
    expect((await download(`${url}/${second.hash}.narinfo`)).status).toBe(200);
    expect(service.environments.length).toBe(1);
  });

  it('answers before its time is over, where an upstream does not', async () => {
    const { url, service } = await start(URL_SET_UP, { timeoutMs: 4_000 });
    const path = await published(100_000);
    publish(upstream, path, { stallAt: 'headers' });
    const answer = await download(`${url}/${path.url}`);
    expect([502, 504]).toContain(answer.status);
    expect(answer.bytes.toString()).toMatch(/^[a-z_]+: /);
    await service.settled();
    expect(service.output).not.toContain('timed out');
    expect(service.environments.length).toBe(1);
  });
});

describe('work that no client waits for', () => {
  it('is handed to another invocation, and done there: an xz body is decoded after it was given', async () => {
    const { url, service } = await start(URL_SET_UP);
    const path = await signedPath({ size: 100_000, compression: 'xz', prose: true });
    publish(upstream, path);
    expect((await download(`${url}/${path.hash}.narinfo`)).status).toBe(200);
    expect((await download(`${url}/${path.url}`)).bytes.equals(path.body)).toBe(true);
    await service.settled();
    expect(service.asyncInvocations).toEqual([
      { event: { kind: 'verify', key: path.url }, end: { kind: 'done' } },
    ]);
    expect(service.output).toMatch(/"job":"verify".*"outcome":"done"/);
  });

  it('stores a NAR that it is told to store', async () => {
    const { url, service } = await start(URL_SET_UP);
    const path = await published(100_000);
    expect((await download(`${url}/${path.hash}.narinfo`)).status).toBe(200);
    expect(await service.invoke({ kind: 'fill', key: path.url })).toEqual({ kind: 'done' });
    await upstream.down();
    expect((await download(`${url}/${path.url}`)).bytes.equals(path.body)).toBe(true);
  });

  it('fails where it should be tried again', async () => {
    const { url, service } = await start(URL_SET_UP);
    const path = await published(100_000);
    expect((await download(`${url}/${path.hash}.narinfo`)).status).toBe(200);
    publish(upstream, path, { status: 500, body: 'not now' });
    expect(await service.invoke({ kind: 'fill', key: path.url })).toMatchObject({ kind: 'failed' });
  });
});

describe('other events', () => {
  it('does the work of a start where it is told to', async () => {
    const { service, storage } = await start(URL_SET_UP);
    expect(await service.invoke({ kind: 'start-up' })).toEqual({ kind: 'done' });
    expect(await readFile(join(storage, 'nix-cache-info'), 'utf8')).toContain('StoreDir: /nix/store');
  });

  it('refuses what it does not know', async () => {
    const { service } = await start(URL_SET_UP);
    const end = await service.invoke({ Records: [] });
    expect(end).toMatchObject({ kind: 'failed' });
    expect(service.output).toContain('Cannot tell what this event is for');
  });
});

it('says what is wrong with its configuration, in its log alone and without secrets', async () => {
  const { url, service } = await start(
    URL_SET_UP,
    {},
    { SNOWCAP_SECRET_KEY: 'snowcap.test-1:c2VjcmV0', SNOWCAP_PRIORITY: 'high' },
  );
  const answer = await download(`${url}/nix-cache-info`);
  expect(answer.status).toBe(502);
  expect(answer.bytes.toString()).not.toContain('SNOWCAP');
  await service.settled();
  expect(service.output).toContain('SNOWCAP_PRIORITY: expected');
  expect(service.output).toContain('SNOWCAP_SECRET_KEY: ');
  expect(service.output).not.toContain('c2VjcmV0');
});

describe('the schedule of a function', () => {
  it('has an event evict what was used least', async () => {
    const { url, service, storage } = await start(
      URL_SET_UP,
      {},
      { SNOWCAP_MAX_SIZE: '250000', SNOWCAP_EVICTION_LOW_WATER: '50%' },
    );
    const paths: SignedPath[] = [];
    for (let nth = 1; nth <= 3; nth += 1) {
      const path = await signedPath({ name: `path-${nth}`, seed: nth, size: 100_000 });
      publish(upstream, path);
      await download(`${url}/${path.hash}.narinfo`);
      await download(`${url}/${path.url}`);
      paths.push(path);
    }
    await service.settled();
    const database = new DatabaseSync(join(storage, '../index.db'));
    // What was used in the last minutes would stay.
    database.exec('update nars set last_access = 1000 + id, evict_rank = 1000 + id');
    expect(await service.invoke({ kind: 'evict' })).toEqual({ kind: 'done' });
    const states = database.prepare('select state from nars order by id').all();
    expect(states.map(({ state }) => state)).toEqual(['absent', 'absent', 'present']);
    database.close();
    const [first] = paths;
    if (first === undefined) return;
    expect((await download(`${url}/${first.url}`)).bytes.equals(first.body)).toBe(true);
  });
});
