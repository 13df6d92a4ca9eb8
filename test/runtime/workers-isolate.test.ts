import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { formatSecretKey, generateSecretKey } from '../../src/nix/signing-key.ts';
import {
  type BundledWorker,
  type BundledWorkerOptions,
  startBundledWorker,
} from '../support/bundled-worker.ts';
import { download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { publish, type SignedPath, signedPath, upstreamPublicKey } from '../support/signed-path.ts';
import { until } from '../support/test-cache.ts';

let upstream: FaultServer;

beforeEach(async () => {
  upstream = await startFaultServer();
});

afterEach(async () => {
  await upstream.close();
});

async function start(options: Partial<BundledWorkerOptions> = {}): Promise<BundledWorker> {
  const worker = await startBundledWorker({
    ...options,
    settings: {
      SNOWCAP_UPSTREAMS: upstream.url,
      SNOWCAP_TRUSTED_PUBLIC_KEYS: await upstreamPublicKey(),
      ...options.settings,
    },
  });
  onTestFinished(() => worker.stop());
  return worker;
}

/** What the bucket holds of a NAR, in bytes; null where it holds none. */
async function storedSize({ workerd }: BundledWorker, path: SignedPath): Promise<number | null> {
  const bucket = await workerd.getR2Bucket('CACHE');
  return (await bucket.head(path.url))?.size ?? null;
}

function outcomes({ logs }: BundledWorker, path: string): readonly string[] {
  return logs
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as { msg?: string; path?: string; outcome?: string })
    .filter((line) => line.msg === 'request' && line.path === path)
    .map(({ outcome = '' }) => outcome);
}

describe('A Worker whose configuration is wrong', () => {
  test('answers every request with 500, and logs all problems in one line, without a secret', async () => {
    const worker = await start({
      secretKey: null,
      settings: {
        SNOWCAP_STORAGE: 'r2:NOWHERE',
        SNOWCAP_DATABASE: 'postgres://user:s3cret@db.test/x y',
        SNOWCAP_LOCK: 'redis://user:s3cret@redis.test',
        SNOWCAP_PRIORITY: 'high',
        SNOWCAP_SECRET_KEY_FILE: '/run/key',
        SNOWCAP_UPSTREAM: 'https://cache.test',
      },
    });
    for (const path of ['/', '/nix-cache-info', '/healthz', `/${'0'.repeat(32)}.narinfo`]) {
      const answer = await fetch(worker.url + path);
      expect([answer.status, answer.headers.get('cache-control')]).toEqual([500, 'no-store']);
      expect(await answer.text()).toContain('its log says what is wrong');
    }
    await until(() => worker.logs.length >= 4);
    expect(new Set(worker.logs.map((line) => (JSON.parse(line) as { msg: string }).msg))).toEqual(
      new Set(['The configuration of this Worker is wrong']),
    );
    for (const name of ['LOCK', 'PRIORITY', 'SECRET_KEY_FILE', 'UPSTREAM:']) {
      expect(worker.logs[0]).toContain(`SNOWCAP_${name}`);
    }
    expect(worker.logs.join()).not.toContain('s3cret');
  });

  test.each([
    ['has no key', { secretKey: null }, 'SNOWCAP_SECRET_KEY'],
    ['names a binding that is not there', { settings: { SNOWCAP_STORAGE: 'r2:NOPE' } }, 'there is none'],
    ['names a binding of another kind', { settings: { SNOWCAP_STORAGE: 'r2:INDEX' } }, 'something else'],
  ] as const)('says so where it %s', async (_case, options, said) => {
    const worker = await start(options);
    expect((await fetch(`${worker.url}/nix-cache-info`)).status).toBe(500);
    await until(() => worker.logs.length > 0);
    expect(worker.logs[0]).toContain(said);
  });

  test('says which command makes the schema, and serves what needs no index', async () => {
    const worker = await start({ migrated: false });
    const path = await signedPath();
    publish(upstream, path);
    expect((await fetch(`${worker.url}/${path.hash}.narinfo`)).status).toBe(502);
    await until(() => worker.logs.join().includes('wrangler d1 migrations apply'));
    expect((await fetch(`${worker.url}/nix-cache-info`)).status).toBe(200);
  });
});

describe('A client that leaves a fill', () => {
  /** A NAR whose upstream stands still in its middle until it is told to go on. */
  async function leaveInTheMiddle(worker: BundledWorker): Promise<{ path: SignedPath; goOn: () => void }> {
    const path = await signedPath({ size: 2_000_000 });
    const { promise, resolve } = Promise.withResolvers<void>();
    publish(upstream, path);
    upstream.route(`/${path.url}`, [
      { body: path.body, stallAt: 1_000_000, until: promise },
      { body: path.body },
    ]);
    // Only what a path vouches for is stored.
    await download(`${worker.url}/${path.hash}.narinfo`);
    await download(`${worker.url}/${path.url}`, { leaveAfter: 100_000 });
    return { path, goOn: resolve };
  }

  test('has it done by the consumer of the queue', async () => {
    const worker = await start();
    const { path, goOn } = await leaveInTheMiddle(worker);
    goOn();
    await until(async () => (await storedSize(worker, path)) === path.body.length, undefined, 40_000);
    expect(worker.logs.join()).toContain('"job":"fill"');
    const asked = upstream.requestsTo(`/${path.url}`).length;
    const answer = await download(`${worker.url}/${path.url}`);
    expect(answer.ended).toBe('clean');
    expect(answer.bytes.equals(path.body)).toBe(true);
    expect(upstream.requestsTo(`/${path.url}`)).toHaveLength(asked);
  });

  test('leaves nothing half-stored where there is no queue', async () => {
    const worker = await start({ queue: false });
    const { path, goOn } = await leaveInTheMiddle(worker);
    goOn();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect(await storedSize(worker, path)).toBeNull();
    const answer = await download(`${worker.url}/${path.url}`);
    expect(answer.bytes.equals(path.body)).toBe(true);
  });
});

describe.each([true, false])('The bucket of a new Worker (with a queue: %s)', (queue) => {
  test('says what it is, so that a plain client may use it, and what its narinfos were checked against', async () => {
    const worker = await start({ queue });
    const told = await (await fetch(`${worker.url}/nix-cache-info`)).text();
    const bucket = await worker.workerd.getR2Bucket('CACHE');
    await until(async () => (await bucket.head('snowcap/trusted-keys')) !== null);
    expect(await (await bucket.get('nix-cache-info'))?.text()).toBe(told);
  });
});

describe('The cache of the data centre', () => {
  test('answers narinfos and small NARs for the stated time, and then no more', async () => {
    const worker = await start({ settings: { SNOWCAP_NAR_INFO_TTL: '3', SNOWCAP_LOG_LEVEL: 'info' } });
    const path = await signedPath({ size: 1000 });
    publish(upstream, path);
    const urls = [`/${path.hash}.narinfo`, `/${path.url}`];
    for (const url of urls) {
      const first = await fetch(worker.url + url);
      const bytes = await first.bytes();
      expect(first.headers.get('content-length')).toBe(String(bytes.length));
      await until(async () => {
        const again = await fetch(worker.url + url);
        expect(await again.bytes()).toEqual(bytes);
        for (const name of ['cache-control', 'content-type', 'etag', 'content-length']) {
          expect(again.headers.get(name)).toBe(first.headers.get(name));
        }
        return outcomes(worker, url).includes('edge');
      });
    }
    await new Promise((resolve) => setTimeout(resolve, 4000));
    for (const url of urls) {
      await fetch(worker.url + url);
      await until(() => outcomes(worker, url).at(-1) !== 'edge');
    }
  });

  test('keeps no 404, no fault and no range', async () => {
    const worker = await start({ settings: { SNOWCAP_NEGATIVE_TTL: '0' } });
    const path = await signedPath({ size: 1000 });
    const url = `${worker.url}/${path.hash}.narinfo`;
    expect((await fetch(url)).status).toBe(404);
    upstream.route(`/${path.hash}.narinfo`, { status: 500 });
    expect((await fetch(url)).status).toBe(502);
    publish(upstream, path);
    await until(async () => (await fetch(url)).status === 200);
    const range = await fetch(`${worker.url}/${path.url}`, { headers: { Range: 'bytes=0-9' } });
    expect([range.status, (await range.bytes()).length]).toEqual([206, 10]);
    expect((await (await fetch(`${worker.url}/${path.url}`)).bytes()).length).toBe(path.body.length);
  });

  test('keeps no body that broke off on its way, and says how long the whole is', async () => {
    const worker = await start();
    // Streamed, and yet small enough to be kept.
    const path = await signedPath({ size: 200_000 });
    publish(upstream, path);
    upstream.route(`/${path.url}`, [{ body: path.body, flipBitAt: 199_999 }, { body: path.body }]);
    await download(`${worker.url}/${path.hash}.narinfo`);
    expect((await download(`${worker.url}/${path.url}`)).ended).toBe('broken');
    for (const outcome of ['fill', 'edge']) {
      const answer = await download(`${worker.url}/${path.url}`);
      expect(answer).toMatchObject({ status: 200, ended: 'clean' });
      expect(answer.headers['content-length']).toBe(String(path.body.length));
      expect(answer.bytes.equals(path.body)).toBe(true);
      await until(() => outcomes(worker, `/${path.url}`).at(-1) === outcome);
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
  });

  test('is passed by where the time is 0', async () => {
    const worker = await start({ settings: { SNOWCAP_NAR_INFO_TTL: '0' } });
    const path = await signedPath();
    publish(upstream, path);
    for (let i = 0; i < 4; i += 1) await (await fetch(`${worker.url}/${path.hash}.narinfo`)).text();
    await until(() => outcomes(worker, `/${path.hash}.narinfo`).length === 4);
    expect(outcomes(worker, `/${path.hash}.narinfo`)).toEqual(['upstream', 'hit', 'hit', 'hit']);
  });
});

describe('An isolate that is killed in the middle of a fill', () => {
  test('leaves nothing visible; the next one gives the whole', async () => {
    const state = await mkdtemp(join(tmpdir(), 'snowcap-state-'));
    onTestFinished(() => rm(state, { recursive: true, force: true }));
    const secretKey = formatSecretKey(await generateSecretKey('worker.test-1'));
    // Far more than one part of an upload.
    const path = await signedPath({ size: 24 * 2 ** 20 });
    publish(upstream, path);
    upstream.route(`/${path.url}`, [{ body: path.body, stallAt: 20 * 2 ** 20 }, { body: path.body }]);
    const first = await start({ state, secretKey });
    await download(`${first.url}/${path.hash}.narinfo`);
    const cut = download(`${first.url}/${path.url}`);
    await until(() => (upstream.requestsTo(`/${path.url}`)[0]?.bytesSent ?? 0) >= 20 * 2 ** 20);
    await first.stop();
    expect((await cut).ended).toBe('broken');

    const second = await start({ state, secretKey, settings: { SNOWCAP_FILL_WAIT: '1' } });
    expect(await storedSize(second, path)).toBeNull();
    const answer = await download(`${second.url}/${path.url}`);
    expect(answer.ended).toBe('clean');
    expect(answer.bytes.equals(path.body)).toBe(true);
  });
});

describe('The cron trigger of a Worker', () => {
  test('evicts what was used least, and a fill that passes the limit has it done by the queue', async () => {
    const worker = await start({
      settings: { SNOWCAP_MAX_SIZE: '250000', SNOWCAP_EVICTION_LOW_WATER: '50%', SNOWCAP_NAR_INFO_TTL: '0' },
    });
    const fetched = async (name: string, seed: number): Promise<SignedPath> => {
      const path = await signedPath({ name, seed, size: 100_000 });
      publish(upstream, path);
      await download(`${worker.url}/${path.hash}.narinfo`);
      await download(`${worker.url}/${path.url}`);
      return path;
    };
    const database = await worker.workerd.getD1Database('INDEX');
    const present = async (): Promise<number> => {
      const row = await database.prepare("select count(*) as n from nars where state = 'present'").first('n');
      return Number(row);
    };
    const first = await fetched('one', 1);
    await fetched('two', 2);
    await until(async () => (await present()) === 2);
    // What was used in the last minutes would stay.
    const age = 'update nars set last_access = 1000 + id, evict_rank = 1000 + id';
    await database.prepare(age).run();
    await fetched('three', 3);
    await until(async () => (await present()) === 1, undefined, 40_000);
    expect(worker.logs.join()).toContain('"job":"evict"');
    expect(await storedSize(worker, first)).toBeNull();

    await fetched('four', 4);
    await fetched('five', 5);
    await until(async () => (await present()) === 3);
    await database.prepare(age).run();
    const handler = await worker.workerd.getWorker();
    const outcome = await handler.scheduled({ cron: '17 * * * *' });
    expect(outcome.outcome).toBe('ok');
    expect(await present()).toBe(1);
    expect((await download(`${worker.url}/${first.url}`)).bytes.equals(first.body)).toBe(true);
  });
});
